// Who looks: with which role, and a form for a token. A viewer's token sees, an operator's acts.

import { token } from "./api.js";
import { el, redraw, state } from "./dom.js";

const HOW = "proxyctl token create NAME --role operator";

export class Session {
  /** node: where it says who looks; again: begins the stream anew. */
  constructor(node, again) {
    this.node = node;
    this.again = again;
    this.role = "viewer";
    this.refusal = "not connected yet";
    this.why = el("p", { class: "aside" });
    this.wrong = el("p", { class: "wrong", role: "alert", hidden: true });
    this.secret = el("input", { type: "password", id: "token", autocomplete: "current-password", spellcheck: "false" });
    this.dialog = el("dialog", { id: "sign-in", "aria-labelledby": "sign-in-title" },
      el("form", { onsubmit: (event) => this.submit(event) },
        el("h2", { id: "sign-in-title" }, "A token of this instance"),
        this.why,
        el("input", { type: "text", name: "username", autocomplete: "username", value: "token", hidden: true }),
        el("label", { for: "token" }, el("span", {}, "Token"), this.secret),
        el("p", { class: "aside" }, "A viewer's sees, an operator's acts. On the machine of the instance: ", el("code", {}, HOW)),
        this.wrong,
        el("div", { class: "buttons" },
          el("button", { type: "button", onclick: () => this.dialog.close() }, "Cancel"),
          el("button", { type: "submit", class: "main" }, "Use it"))));
    document.body.append(this.dialog);
    this.draw("");
  }

  /** The stream's first event: who we are. */
  welcome({ role, token: name }) {
    this.role = role;
    this.refusal = null;
    if (role !== "operator") {
      this.refusal = name
        ? `The token ${name} is a viewer's: it sees and changes nothing. Acting needs an operator's.`
        : "Without a token this page sees and changes nothing. Acting needs an operator's token.";
    }
    if (this.dialog.open) this.dialog.close();
    this.draw(name);
  }

  draw(name) {
    redraw(this.node, [name, this.role, Boolean(token.get())], () => [
      state(this.role === "operator" ? "good" : "none", name ? `${name}, ${this.role}` : this.role),
      token.get()
        ? el("button", { type: "button", id: "sign-out", onclick: () => this.use("") }, "Forget token")
        : el("button", { type: "button", id: "use-token", onclick: () => this.ask("") }, "Use a token…"),
    ]);
  }

  /** Ask for a token. why: what could not be done without one. */
  ask(why) {
    this.why.textContent = why;
    this.wrong.hidden = true;
    this.secret.value = "";
    if (!this.dialog.open) this.dialog.showModal();
    this.secret.focus();
  }

  /** The API lets nobody in without a token, or not with this one. */
  refused(why) {
    const had = token.get();
    this.refusal = why;
    this.ask(had ? "" : why);
    if (had) {
      this.wrong.textContent = why;
      this.wrong.hidden = false;
    }
  }

  submit(event) {
    event.preventDefault();
    if (this.secret.value.trim()) this.use(this.secret.value.trim());
  }

  use(secret) {
    token.set(secret);
    this.draw("");
    this.again();
  }
}
