// A staged plan: its steps, how far it is, what its gates and the guard say, and who may push it on.

import { count, duration, el, fact, mark, percent, redraw, state } from "./dom.js";
import { ANSWER, ENDED, PHASE, VERDICT, verdict } from "./words.js";

/** act(what): promote, pause or resume was asked for. */
export class RolloutPanel {
  constructor(act) {
    this.steps = el("ol", { class: "steps" });
    this.bar = el("i");
    this.now = el("dl", { class: "counts" });
    this.gates = el("div");
    this.buttons = Object.fromEntries(
      [["promote", "Promote…"], ["pause", "Pause…"], ["resume", "Resume…"]].map(([what, text]) => [
        what, el("button", { type: "button", id: what, onclick: () => act(what) }, text)]));
    this.acts = el("div", { class: "acts" }, Object.values(this.buttons));
    this.node = el("section", { class: "panel", "aria-labelledby": "rollout-title" },
      el("h3", { id: "rollout-title" }, "Rollout"), this.now, this.steps, this.gates, this.acts);
  }

  /** plan: the rollout, or undefined; route: of the status; may: null, or why this caller may not act. */
  update(plan, route, may) {
    redraw(this.now, [plan?.phase, plan?.reason, plan?.actor, plan?.paused_by, route.verdict], () => [
      plan ? fact("Phase", state(PHASE[plan.phase] ?? "good", plan.phase)) : fact("Phase", state("none", "no plan")),
      fact("Verdict on new", state(VERDICT[route.verdict.name] ?? "none", verdict(route.verdict.name))),
      fact("Judged by", `${count(route.verdict.samples)} answers, ${count(route.verdict.failed)} failed`),
      plan ? fact("Begun by", plan.actor) : null,
      plan?.paused_by ? fact("Paused by", plan.paused_by) : null,
      plan?.reason ? fact(ENDED.includes(plan.phase) ? "Why" : "Waits for", plan.reason, { class: "long" }) : null,
      route.verdict.reasons.length ? fact("The guard says", route.verdict.reasons.join("; "), { class: "long" }) : null,
    ]);
    redraw(this.steps, [plan?.steps, plan?.step, plan?.phase], () => plan?.steps.map((step, index) => this.step(plan, step, index)) ?? []);
    this.steps.hidden = !plan;
    if (plan) this.progress(plan);
    redraw(this.gates, [plan?.gates, plan?.notes], () => [
      plan?.gates.length ? el("ul", { class: "gates", "aria-label": "Gates of this step" }, plan.gates.map(gate)) : null,
      plan?.notes.length ? el("ul", { class: "gates aside" }, plan.notes.map((note) => el("li", {}, note))) : null,
    ]);
    const isRunning = Boolean(plan) && !ENDED.includes(plan.phase);
    this.acts.hidden = !isRunning;
    this.buttons.pause.hidden = plan?.phase === "paused";
    this.buttons.resume.hidden = plan?.phase !== "paused";
    for (const button of Object.values(this.buttons)) {
      mark(button, "aria-disabled", may ? "true" : null);
      mark(button, "title", may);
    }
  }

  step(plan, step, index) {
    const number = index + 1;
    const isOver = number < plan.step || plan.phase === "done";
    const isNow = number === plan.step && !isOver;
    const place = isOver ? ["good", "done"] : isNow ? ["now", ENDED.includes(plan.phase) ? "ended here" : "now"] : ["none", "to come"];
    const gates = [...step.before, ...step.gates, ...step.after];
    return el("li", { class: `step ${isOver ? "done" : isNow ? "now" : ""}`, "aria-current": isNow ? "step" : null },
      state(...place), el("span", { class: "to" }, percent(step.weight)),
      el("p", { class: "how" }, `hold ${duration(step.hold_s)}${step.samples ? `, ${count(step.samples)} answers` : ""}`),
      gates.length ? el("p", { class: "how" }, `gates ${gates.join(", ")}`) : null,
      isNow ? el("div", { class: "bar", "aria-hidden": "true" }, this.bar) : null);
  }

  progress(plan) {
    const hold = plan.steps[plan.step - 1]?.hold_s || 1;
    this.bar.style.transform = `scaleX(${Math.min(1, plan.held_s / hold)})`;
  }
}

function gate(said) {
  return el("li", {}, state(ANSWER[said.answer] ?? "none", said.answer), el("b", {}, said.name), el("span", { class: "aside" }, said.text));
}
