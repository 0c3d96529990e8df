// One side of a route: how fast, how often wrong, how late, and what the ledger still has for it.

import { Sparkline } from "./chart.js";
import { count, duration, el, fact, known, percent, rate, redraw, state, write } from "./dom.js";
import { BREAKER } from "./words.js";

const LATE = 5; // seconds that the oldest pending event may wait before it is worth a look
const STATES = ["delivered", "refused", "dead", "discarded", "lost", "deferred", "released"];

/** A figure with its line. */
class Reading {
  constructor(label, unit, { least, form }) {
    this.value = el("span");
    this.more = el("p", { class: "aside" });
    this.unit = unit;
    this.line = new Sparkline(label, { least, form });
    this.node = el("div", { class: "reading" },
      el("div", {}, el("p", { class: "label" }, label),
        el("p", { class: "value" }, this.value, unit ? el("small", {}, unit) : null), this.more),
      this.line.node);
  }

  show(value, more, series, time) {
    write(this.value, value);
    write(this.more, more);
    this.line.draw(series, ...time);
  }
}

export class Side {
  constructor(name) {
    this.rate = new Reading("Answers", "/s", { least: 1, form: (value) => `${rate(value)} per second` });
    this.errors = new Reading("Errors", "", { least: 0.02, form: (value) => percent(value * 100) });
    this.latency = new Reading("p99", "", { least: 0.002, form: duration });
    this.backend = el("p", { class: "aside mono" });
    this.facts = el("dl", { class: "facts-grid" });
    this.node = el("section", { class: `panel side-panel ${name}`, "aria-label": `Side ${name}` },
      el("header", {}, el("h3", {}, name), this.backend),
      this.rate.node, this.errors.node, this.latency.node, this.facts);
  }

  /** side: of the status; lately: its last two seconds, for which quantiles have too few answers; past: its lines; time: now, and the seconds that are shown;
   * account: the ledger's, of all sides. */
  update(side, lately, past, time, account) {
    write(this.backend, `${side.backend} · ${side.url}`);
    const errors = lately.error_rate;
    this.rate.show(rate(lately.rate), `${rate(side.rate)}/s over 10 s`, past.rate, time);
    this.errors.show(errors == null ? "–" : percent(errors * 100), `${side.error_rate == null ? "–" : percent(side.error_rate * 100)} over 10 s`, past.errors, time);
    this.latency.show(duration(side.p99), `over 10 s, as p50 ${duration(side.p50)} · p95 ${duration(side.p95)}`, past.latency, time);
    const isKnown = Boolean(account) && account.alive !== false;
    const ledger = (isKnown && side.ledger) || {};
    const isBalanced = isKnown ? account.balanced : null;
    redraw(this.facts, [side.breaker, side.healthy, side.paused, ledger, side.endpoints.map((each) => each.state), isBalanced], () => [
      fact("Breaker", state(BREAKER[side.breaker] ?? "none", side.breaker)),
      fact("Probe", probe(side.healthy)),
      fact("Pending", known(ledger.pending, (number) => state(ledger.oldest_age_s > LATE ? "warn" : "good", count(number))), { class: "pending" }),
      fact("Oldest", known(ledger.oldest_age_s, duration)),
      fact("Balance", known(isBalanced, (is) => (is ? state("good", "exact") : state("bad", "does not add up")))),
      fact("Owed", known(ledger.owed)),
      ...STATES.filter((name) => name === "delivered" || ledger[name]).map((name) => fact(name, known(ledger[name]))),
      ...side.endpoints.filter((each) => each.state !== "up").map((each) =>
        fact("Endpoint", state("warn", `${each.address} ${each.state}${each.trouble ? `: ${each.trouble}` : ""}`), { class: "wide" })),
      side.paused ? fact("Deliveries paused", state("bad", side.paused), { class: "wide" }) : null,
    ]);
  }
}

function probe(healthy) {
  if (healthy == null) return state("none", "none");
  return healthy ? state("good", "well") : state("bad", "failing");
}
