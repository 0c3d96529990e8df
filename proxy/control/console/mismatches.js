// What the checker found to be different: how much, and samples with both sides beside each other.

import { count, duration, el, fact, moment, percent, redraw, state } from "./dom.js";

export class MismatchPanel {
  constructor() {
    this.body = el("div");
    this.node = el("section", { class: "panel", "aria-labelledby": "mismatch-title" },
      el("h3", { id: "mismatch-title" }, "Is the same stored on both sides?"), this.body);
  }

  /** status: the whole; name: of the route. */
  update(status, name) {
    const checks = status.consistency.filter((check) => check.routes.includes(name));
    const answers = status.answers.filter((each) => each.route === name);
    const key = [checks.map((check) => ({ ...check, behind_s: Math.round(check.behind_s), checked_until: "" })), answers];
    redraw(this.body, key, () => {
      if (!checks.length && !answers.length) {
        return el("p", { class: "aside" }, "Nothing is compared here: a consistency check in the configuration has the checker read both stores.");
      }
      return [...checks.flatMap(stored), ...answers.flatMap(answered)];
    });
  }
}

function stored(check) {
  const trial = check.since_change;
  const classes = Object.entries(check.classes).filter(([, number]) => number);
  return [
    el("dl", { class: "counts" },
      fact("Checker", check.alive ? (check.trouble ? state("warn", check.trouble) : state("good", "running")) : state("bad", "down")),
      fact("Checked", count(check.checked)),
      fact("Mismatches", state(check.mismatches ? "bad" : "good", count(check.mismatches)), { class: "mismatches" }),
      fact("Since the weight changed", `${count(trial.mismatches)} of ${count(trial.settled)}`),
      fact("Behind", duration(Math.round(check.behind_s))),
      ...classes.map(([name, number]) => fact(name, count(number)))),
    ...trial.samples.map(sample),
  ];
}

function sample(found) {
  const head = el("p", {}, el("b", { class: "mono" }, found.identity), state("bad", found.class), found.time ? el("time", { class: "aside", datetime: found.time }, moment(found.time)) : null,
    found.by?.length ? el("span", { class: "aside" }, `held against ${found.by.join(" and ")}`) : null);
  return el("article", { class: "sample" }, head, found.differences?.length ? table(found) : null);
}

function table(found) {
  const head = el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "old" }, "Old"), el("th", { scope: "col", class: "new" }, "New")));
  const rows = found.differences.flatMap((each) => [
    el("tr", {}, el("th", { scope: "rowgroup", colspan: 2 }, each.path || "the whole")),
    el("tr", {}, el("td", {}, value(each.old)), el("td", {}, value(each.new))),
  ]);
  return el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": `Differences of ${found.identity}` }, el("table", { class: "beside" }, head, el("tbody", {}, rows)));
}

const value = (of) => (of == null ? el("span", { class: "absent" }, "nothing") : typeof of === "string" ? of : JSON.stringify(of));

function answered(found) {
  const share = (number) => (number == null ? "–" : percent(number * 100));
  const rows = Object.entries(found.fields).map(([path, each]) =>
    el("tr", {}, el("td", {}, path || "the whole"), el("td", {}, share(each.different)), el("td", {}, share(each.noise))));
  return [
    el("dl", { class: "counts" },
      fact("Answers compared", count(found.compared)),
      fact("Different", state(found.beyond_noise ? "bad" : "good", count(found.different))),
      fact("Beyond noise", count(found.beyond_noise)),
      found.trouble ? fact("Trouble", state("warn", found.trouble)) : null),
    rows.length
      ? el("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Where answers differ" }, el("table", {},
        el("thead", {}, el("tr", {}, ["Field of the answer", "New differs", "Old from itself"].map((text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, rows)))
      : null,
  ];
}
