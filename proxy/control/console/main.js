// The console: one page that shows what the instance tells, and asks it for what a person wants.

import { Actions } from "./actions.js";
import { token } from "./api.js";
import { spanOf } from "./chart.js";
import { el, fact, moment, percent, redraw, state, write, duration, rate, mark } from "./dom.js";
import { Fader } from "./fader.js";
import { MismatchPanel } from "./mismatches.js";
import { Past } from "./past.js";
import { RolloutPanel } from "./rollout.js";
import { Session } from "./session.js";
import { Side } from "./side.js";
import { Stream } from "./stream.js";
import { LINK, SPOKEN } from "./words.js";

const byId = (id) => document.getElementById(id);

/** The address of a route. Prefixed: a route may be called as an element of the page is. */
const PLACE = "#route=";
const placeOf = (route) => PLACE + encodeURIComponent(route);

/** The route that the address names, also without the prefix, as bookmarks had it; "" when that cannot be read. */
function named() {
  try {
    return decodeURIComponent(location.hash.slice(location.hash.startsWith(PLACE) ? PLACE.length : 1));
  } catch {
    return "";
  }
}

class Console {
  constructor() {
    this.snapshot = null;
    this.pasts = new Map();
    this.chosen = "";
    this.own = ""; // a warning of the page's own
    this.told = {}; // by route, what was said last of it, so that only news are spoken
    this.session = new Session(byId("who"), () => this.stream.start());
    this.actions = new Actions({ say: (text) => this.say(text), warn: (text) => this.warn(text), snapshot: () => this.snapshot });
    this.stream = new Stream("/api/v1/status/stream", {
      token: token.get,
      told: (kind, data, id) => this.take(kind, data, id),
      changed: (link, why) => this.linked(link, why),
    });
    addEventListener("hashchange", () => this.draw());
    byId("skip").addEventListener("click", (event) => skip(event));
    this.stream.start();
  }

  take(kind, data, id) {
    if (kind === "welcome") this.session.welcome(data);
    if (kind === "history") this.feed(data.entries);
    if (kind !== "snapshot") return;
    const life = id.slice(0, id.lastIndexOf("."));
    if (this.life && life !== this.life) this.say("Another supervisor answers now. Clients noticed nothing of it.");
    this.life = life;
    this.snapshot = data;
    const at = Date.parse(data.at) / 1000;
    for (const route of data.status.routes) this.past(route.name).take(at, route, data.lately[route.name]);
    this.speak(data.status.routes);
    this.draw();
  }

  past(name) {
    if (!this.pasts.has(name)) this.pasts.set(name, new Past(name));
    return this.pasts.get(name);
  }

  linked(link, why) {
    const [kind, word] = LINK[link];
    const since = this.snapshot && ["stale", "lost", "refused"].includes(link) ? `, figures are of ${moment(this.snapshot.at)}` : "";
    redraw(byId("link"), [link, since], () => state(kind, word + since));
    if (link === "refused") this.session.refused(why);
    if (link !== this.link && SPOKEN[link]) this.say(SPOKEN[link]);
    if (link === "live" && SPOKEN[this.link]) this.say("Figures come again.");
    this.link = link;
  }

  /** For those who listen: what changed, once. */
  speak(routes) {
    for (const route of routes) {
      const text = `${route.name}: weight ${percent(route.weight_target)}, stage ${route.stage}${route.latched ? `, latched: ${route.latch_reason}` : ""}`;
      if (this.told[route.name] && this.told[route.name] !== text) this.say(text);
      this.told[route.name] = text;
    }
  }

  say(text) {
    write(byId("said"), text);
  }

  warn(text) {
    if (text === this.own) return;
    this.own = text;
    this.draw();
    if (text) this.say(text);
  }

  draw() {
    if (!this.snapshot) return;
    const { status } = this.snapshot;
    const found = (name) => status.routes.find((each) => each.name === name);
    // An address that names none of them, or cannot be read, changes nothing: what a person acts on stays the same.
    const route = found(named()) ?? (location.hash ? found(this.chosen) : null) ?? status.routes[0];
    this.rail(status);
    this.notices(this.own ? [this.own, ...status.warnings] : status.warnings);
    this.channels(status.routes, route?.name);
    if (route) this.desk(route);
  }

  rail(status) {
    const workers = status.workers.filter((each) => each.alive).length;
    redraw(byId("facts"), [status.ready, status.draining, status.epoch, status.version, workers, status.ledger?.alive], () => [
      fact("Instance", status.draining ? state("warn", "draining") : status.ready ? state("good", "ready") : state("bad", "not ready")),
      fact("Epoch", String(status.epoch)),
      fact("Workers", state(workers === status.workers.length ? "good" : "bad", `${workers} of ${status.workers.length}`)),
      fact("Ledger", status.ledger?.alive ? state("good", "there") : state("bad", "away")),
      fact("Version", status.version),
    ]);
  }

  notices(warnings) {
    const node = byId("notices");
    node.hidden = !warnings.length;
    redraw(node, warnings, () => el("ul", {}, warnings.map((text) => el("li", {}, el("span", { class: "shape", "aria-hidden": "true" }, "▲"), text))));
  }

  channels(routes, chosen) {
    const nav = byId("channels");
    nav.hidden = routes.length < 2;
    redraw(nav, routes.map((route) => route.name), () => routes.map((route) => new Channel(route.name).node));
    routes.forEach((route, index) => nav.children[index].update(route, route.name === chosen));
  }

  desk(route) {
    const desk = byId("desk");
    if (this.chosen !== route.name) {
      this.chosen = route.name;
      this.board = new Board(route.name, this.actions, (why) => this.session.ask(why));
      desk.replaceChildren(...this.board.nodes);
      mark(desk, "aria-label", `Route ${route.name}`);
    }
    const past = this.past(route.name);
    past.fetch(Date.parse(this.snapshot.at) / 1000);
    this.board.update(this.snapshot, route, past, this.session.refusal);
  }

  feed(entries) {
    redraw(byId("feed"), entries, () => entries.map(line));
  }
}

/** To the desk by the focus alone: the address says which route it is. */
function skip(event) {
  event.preventDefault();
  byId("desk").focus();
  byId("desk").scrollIntoView();
}

/** A route among the others. */
class Channel {
  constructor(name) {
    this.weight = el("span", { class: "weight" });
    this.stage = el("span", { class: "stage" });
    this.rate = el("span", { class: "rate" });
    this.share = el("i");
    this.node = el("button", { type: "button", class: "channel", onclick: () => (location.hash = placeOf(name)) },
      el("span", { class: "name" }, name), this.weight, this.stage, this.rate, el("span", { class: "meter", "aria-hidden": "true" }, this.share));
    this.node.update = (route, isChosen) => this.update(route, isChosen);
  }

  update(route, isChosen) {
    write(this.weight, percent(route.weight_target));
    write(this.stage, route.latched ? "■ latched" : route.stage);
    write(this.rate, `${rate(route.rate)}/s`);
    this.share.style.transform = `scaleX(${(route.weight_observed ?? route.weight_target) / 100})`;
    mark(this.node, "aria-current", isChosen ? "true" : null);
  }
}

/** Everything of one route. refuse(why): a person wants what this caller may not do. */
class Board {
  constructor(name, actions, refuse) {
    this.name = name;
    const act = (what, body, after) => (this.may ? refuse(this.may) : actions.open(what, name, body, after));
    this.marks = el("div", { class: "marks" });
    this.rearm = el("button", { type: "button", id: "rearm", hidden: true, onclick: () => act("rearm") }, "Re-arm…");
    this.fader = new Fader(name, { turn: (weight) => act("weight", { weight }, () => this.fader.release()), back: () => act("rollback") });
    this.sides = { old: new Side("old"), new: new Side("new") };
    this.rollout = new RolloutPanel((what) => act(`rollout/${what}`));
    this.mismatches = new MismatchPanel();
    this.nodes = [
      el("div", { class: "title" }, el("h2", {}, name), this.marks, this.rearm),
      this.fader.node,
      el("div", { class: "sides" }, this.sides.old.node, this.sides.new.node),
      this.rollout.node,
      this.mismatches.node,
    ];
  }

  /** may: null, or why this caller may not act. */
  update(snapshot, route, past, may) {
    const { status } = snapshot;
    const now = Date.parse(snapshot.at) / 1000;
    const time = [now, spanOf(past.target, now)];
    this.may = may;
    redraw(this.marks, [route.stage, route.copy, route.latched, route.latch_reason, route.frozen, route.drill, Math.round(route.rate)], () => marks(route));
    this.rearm.hidden = !route.latched;
    mark(this.rearm, "aria-disabled", may ? "true" : null);
    this.fader.update(route, past, time, may);
    for (const [name, side] of Object.entries(this.sides)) {
      side.update(route.sides[name], snapshot.lately[route.name][name], past.sides[name], time, status.ledger);
    }
    this.rollout.update(snapshot.rollouts[route.name], route, may);
    this.mismatches.update(status, route.name);
  }
}

function marks(route) {
  return [
    el("span", {}, el("span", { class: "label" }, "Stage "), route.stage),
    el("span", {}, el("span", { class: "label" }, "Copy "), route.copy),
    el("span", {}, el("span", { class: "label" }, "Events "), `${rate(Math.round(route.rate))}/s`),
    route.latched ? state("bad", `latched: ${route.latch_reason}`) : null,
    route.frozen ? state("warn", `frozen until ${moment(route.frozen.until)}: ${route.frozen.reason || route.frozen.actor}`) : null,
    route.drill?.running ? state("warn", `drill: ${route.drill.fault}, ${duration(route.drill.seconds)}`) : null,
  ];
}

/** An entry of the audit trail. */
function line(entry) {
  const { before, after } = entry;
  const turned = before.weight != null && after.weight != null && before.weight !== after.weight ? ` ${percent(before.weight)} → ${percent(after.weight)}` : "";
  return el("li", {},
    el("p", { class: "what" }, el("span", {}, el("b", {}, entry.action), turned), el("time", { datetime: entry.at }, moment(entry.at))),
    el("p", { class: "by" }, [entry.route, entry.actor, `epoch\u00a0${entry.epoch}`].filter(Boolean).join(" · ")),
    entry.reason ? el("p", { class: "why" }, entry.reason) : null);
}

new Console();
