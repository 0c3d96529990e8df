// What a person does to a route: first what it would do (the API's dry run), then with a reason, then done.

import { ask, ofRoute } from "./api.js";
import { el, percent, rate, state } from "./dom.js";

const PREVIEW_WAIT = 10; // seconds

/** By name: how it is asked for, and its words. `keepsEpoch`: only if nothing changed since the preview. */
const ACTIONS = {
  weight: { method: "PUT", title: (route, body) => `Set the weight of ${route} to ${percent(body.weight)}`, go: "Set weight", keepsEpoch: true },
  rollback: { title: (route) => `Roll ${route} back: old answers everything`, go: "Roll back", isBack: true },
  rearm: { title: (route) => `Re-arm ${route}: its weight may rise again`, go: "Re-arm", keepsEpoch: true },
  "rollout/promote": { title: (route) => `Promote ${route} to its next step now`, go: "Promote", keepsEpoch: true },
  "rollout/pause": { title: (route) => `Pause the rollout of ${route}`, go: "Pause" },
  "rollout/resume": { title: (route) => `Resume the rollout of ${route}`, go: "Resume", keepsEpoch: true },
};

/** Asks for a preview, a reason and a yes. say(text): what came of it; warn(text): what a closed dialog cannot say any more,
 * empty when it is of the past; snapshot(): the present one. */
export class Actions {
  constructor({ say, warn, snapshot }) {
    this.say = say;
    this.warn = warn;
    this.snapshot = snapshot;
    this.title = el("h2", { id: "act-title" });
    this.effect = el("div", { class: "effect", "aria-live": "polite" });
    this.wrong = el("p", { class: "wrong", role: "alert", hidden: true });
    this.reason = el("input", { type: "text", id: "reason", maxlength: 1000, autocomplete: "off" });
    this.go = el("button", { type: "submit", id: "go" });
    const form = el("form", { onsubmit: (event) => this.submit(event) },
      this.title, this.effect,
      el("label", { for: "reason" }, el("span", {}, "Reason, for the audit trail"), this.reason),
      this.wrong,
      el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => this.dialog.close() }, "Cancel"), this.go));
    this.dialog = el("dialog", { id: "act", "aria-labelledby": "act-title", onclose: () => this.closed() }, form);
    document.body.append(this.dialog);
  }

  /** what: a key of ACTIONS; after: called when the dialog is closed, whatever came of it. */
  open(what, route, body = {}, after = undefined) {
    this.asked = { what, route, body, action: ACTIONS[what] };
    this.after = after;
    this.title.textContent = this.asked.action.title(route, body);
    this.go.textContent = this.asked.action.go;
    this.go.className = this.asked.action.isBack ? "back" : "main";
    this.reason.value = "";
    this.warn("");
    this.dialog.showModal();
    this.reason.focus();
    this.preview();
  }

  /** What was asked is over for this dialog; its answer may be on its way. */
  closed() {
    if (this.dialog.open) return; // for something else already
    this.asked = null;
    this.after?.();
  }

  request({ what, route, body, action }, more, bounds) {
    return ask(action.method ?? "POST", ofRoute(route, what), { ...body, ...more }, bounds);
  }

  async preview() {
    const asked = this.asked;
    this.go.disabled = !asked.action.isBack; // a way back is tried whatever a preview says, and without waiting for it
    this.wrong.hidden = true;
    this.effect.replaceChildren(el("p", { class: "aside" }, "Asking what it would do…"));
    const before = this.snapshot();
    this.epoch = before?.status.epoch;
    try {
      const told = await this.request(asked, { dry_run: true }, { wait: PREVIEW_WAIT });
      if (asked !== this.asked) return;
      if (told.epoch !== undefined) this.epoch = told.epoch;
      this.effect.replaceChildren(...(told.steps ? rolloutEffect(told, before.rollouts[asked.route]) : routingEffect(told)));
    } catch (error) {
      if (asked !== this.asked) return;
      const { isBack } = asked.action;
      this.effect.replaceChildren(el("p", { class: "aside" }, isBack ? `There is no preview. ${error.message}` : "There is no preview."));
      if (!isBack) this.complain(error);
      return;
    }
    if (!asked.action.isBack) this.go.disabled = false; // that of a way back may be on its way already
  }

  async submit(event) {
    event.preventDefault();
    if (this.go.disabled) return;
    const asked = this.asked;
    const { action, route } = asked;
    this.go.disabled = true;
    this.wrong.hidden = true;
    try {
      const told = await this.request(asked, { reason: this.reason.value.trim() }, { epoch: action.keepsEpoch ? this.epoch : undefined });
      if (asked === this.asked) this.dialog.close();
      this.say(done(route, told));
    } catch (error) {
      // The dialog was closed meanwhile, and may be open for something else.
      if (asked !== this.asked) return this.warn(`${action.title(route, asked.body)} – ${error.message}`);
      if (error.status === 409) this.preview();
      else this.go.disabled = false;
      this.complain(error);
    }
  }

  complain(error) {
    this.wrong.textContent = error.message;
    this.wrong.hidden = false;
  }
}

function done(route, told) {
  if (told.steps) return `The rollout of ${route} is ${told.phase}.`;
  const { workers, of } = told.applied ?? { workers: 0, of: 0 };
  const where = `weight ${percent(told.after.weight)}, stage ${told.after.stage}`;
  return told.changed ? `${route} is at ${where}: ${workers} of ${of} workers have it.` : `${route} was at ${where} already.`;
}

const turn = (before, after) => el("p", { class: "turn" }, before === after ? `stays ${after}` : `${before} → ${after}`);

function routingEffect(told) {
  const { before, after, moves } = told;
  const nodes = [turn(percent(before.weight), percent(after.weight))];
  if (before.stage !== after.stage) nodes.push(el("p", {}, `stage ${before.stage} → ${after.stage}`));
  if (before.latched !== after.latched) nodes.push(el("p", {}, after.latched ? "latched from then on" : "the latch opens"));
  if (moves) nodes.push(el("p", {}, moved(moves)), table(moves.sides));
  else if (before.weight !== after.weight) nodes.push(el("p", { class: "aside" }, "No events came in the last minutes: nobody can say how many would move."));
  nodes.push(notes(told.notes));
  return nodes.filter(Boolean);
}

function moved(moves) {
  const keys = `${moves.keys.is_least ? "at least " : "about "}${Math.round(moves.keys.estimate)}`;
  return `${percent(moves.buckets_percent)} of buckets move to ${moves.to}: ${keys} keys, ${rate(moves.rate)} of ${rate(moves.all_rate)} events/s.`;
}

function table(sides) {
  const rows = Object.entries(sides).map(([name, side]) =>
    el("tr", {}, el("th", { scope: "row", class: name }, name), el("td", {}, `${rate(side.before)}/s`), el("td", {}, `${rate(side.after)}/s`)));
  return el("table", {}, el("thead", {}, el("tr", {}, ["Gets", "Before", "After"].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows));
}

function notes(said) {
  return said.length ? el("ul", {}, said.map((note) => el("li", {}, el("span", { class: "warn", "aria-hidden": "true" }, "▲"), note))) : null;
}

function rolloutEffect(told, before) {
  const weight = (plan) => percent(plan.steps[plan.step - 1].weight);
  return [
    turn(`${before?.phase ?? "nothing"}, step ${before?.step ?? 0}`, `${told.phase}, step ${told.step} of ${told.steps.length}`),
    before && before.step !== told.step ? el("p", {}, `weight ${weight(before)} → ${weight(told)}`) : null,
    told.reason ? el("p", {}, told.reason) : null,
    notes(told.notes),
  ].filter(Boolean);
}
