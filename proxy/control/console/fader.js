// The crossfader: where the weight is to be, where it is, and how it came there.

import { Ribbon } from "./chart.js";
import { duration, el, mark, percent, write } from "./dom.js";

const MARKS = [0, 10, 25, 50, 75, 100];

/** Of one route. turn(weight): a person wants that weight; back(): all to old. */
export class Fader {
  constructor(route, { turn, back }) {
    this.target = null;
    this.range = el("input", {
      type: "range", min: 0, max: 100, step: 1, id: "fader", "aria-label": `Weight of ${route}: percent answered by new`,
      oninput: () => this.hold(Number(this.range.value)),
      onkeydown: (event) => event.key === "Enter" && this.go(),
    });
    this.number = el("input", {
      type: "number", min: 0, max: 100, step: 0.01, id: "weight", inputmode: "decimal",
      oninput: () => this.hold(this.number.valueAsNumber),
      onkeydown: (event) => event.key === "Enter" && this.go(),
      onblur: () => this.show(),
    });
    this.turn = turn;
    this.held = null; // a weight that a person has chosen and not confirmed
    this.button = el("button", { type: "button", class: "main", id: "turn", onclick: () => this.go() }, "Set weight…");
    this.cancel = el("button", { type: "button", hidden: true, onclick: () => this.release() }, "Leave it");
    this.back = el("button", { type: "button", class: "back", id: "rollback", onclick: back }, "Roll back…");
    this.shares = { old: el("p", { class: "share" }), new: el("p", { class: "share" }) };
    this.said = el("p", { class: "middle aside" });
    this.spanNode = el("i", { class: "span" });
    this.markNode = el("i", { class: "mark" });
    this.ribbon = new Ribbon();
    this.targetText = el("b", { id: "target" });
    this.observedText = el("b", { id: "observed" });
    this.spanText = el("span");
    this.node = this.build(route);
  }

  build(route) {
    const end = (side) =>
      el("div", { class: `end ${side}` }, el("p", { class: "side" }, side), this.shares[side]);
    const scale = el("div", { class: "scale", "aria-hidden": "true" }, MARKS.map((at) => {
      const label = el("span", {}, String(at));
      label.style.setProperty("--mark", at);
      return label;
    }));
    this.seen = el("div", { class: "seen", "aria-hidden": "true" }, this.spanNode, this.markNode);
    this.fader = el("div", { class: "fader" }, scale, this.range, this.seen);
    return el("section", { class: "panel", "aria-label": `Crossfader of ${route}` },
      el("div", { class: "ends" }, end("old"), this.said, end("new")),
      this.fader,
      el("div", { class: "set" },
        el("label", { for: "weight" }, el("span", { class: "label" }, "Weight"), this.number, "%"),
        this.button, this.cancel, el("span", { class: "spring" }), this.back),
      el("figure", { class: "ribbon" }, this.ribbon.node,
        el("figcaption", {},
          el("span", {}, "target ", this.targetText),
          el("span", {}, "observed ", this.observedText),
          this.spanText)));
  }

  /** A person moves it: it stays there until it is confirmed or left. */
  hold(weight) {
    this.held = Number.isFinite(weight) ? Math.min(100, Math.max(0, weight)) : null;
    if (document.activeElement !== this.number) this.number.value = String(this.held);
    if (document.activeElement !== this.range) this.range.value = String(this.held);
    this.show();
  }

  /** It goes back to where the weight is. */
  release() {
    this.held = null;
    this.number.value = String(this.target);
    this.show();
  }

  go() {
    this.turn(this.held ?? this.target);
  }

  show() {
    const isHeld = this.held != null && this.held !== this.target;
    if (!isHeld && this.target != null) {
      this.range.value = String(this.target);
      const isTyped = document.activeElement === this.number; // a field that is being filled is left alone
      if (!isTyped && this.number.valueAsNumber !== this.target) this.number.value = String(this.target);
    }
    mark(this.range, "aria-valuetext", isHeld ? `${this.held} percent chosen, ${this.target} percent set` : `${this.target} percent`);
    this.cancel.hidden = !isHeld;
    write(this.button, isHeld ? `Set ${percent(this.held)}…` : "Set weight…");
  }

  /** Show a snapshot's route. time: now, and the seconds that are shown; may: null, or why this caller may not act. */
  update(route, past, time, may) {
    this.target = route.weight_target;
    const observed = route.weight_observed;
    const shown = observed ?? route.weight_target;
    for (const [side, share] of [["old", 100 - shown], ["new", shown]]) {
      write(this.shares[side], percent(share));
    }
    write(this.said, observed == null ? "no events since the last change" : "of events are answered by");
    this.place(route);
    for (const button of [this.button, this.back, this.range]) {
      mark(button, "aria-disabled", may ? "true" : null);
      mark(button, "title", may);
    }
    write(this.targetText, percent(route.weight_target));
    const [low, high] = route.weight_observed_interval ?? [null, null];
    write(this.observedText, observed == null ? "nothing" : `${percent(observed)} (${percent(low)} to ${percent(high)})`);
    this.ribbon.draw(past.observed, past.target, ...time);
    write(this.spanText, `who answered, last ${duration(time[1])}`);
    this.show();
  }

  place(route) {
    const [low, high] = route.weight_observed_interval ?? [0, 0];
    this.seen.style.visibility = route.weight_observed == null ? "hidden" : "visible";
    this.fader.style.setProperty("--seen", route.weight_observed ?? 0);
    this.fader.style.setProperty("--low", low);
    this.fader.style.setProperty("--high", high);
  }
}
