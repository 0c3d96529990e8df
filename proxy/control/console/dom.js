// Elements and texts. Nothing here, nor anywhere else, makes HTML of a string: what the API says is text.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; null children are left out. `on…` attributes are listeners. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

/** Write a text, if it is another one: a page that is redrawn twice a second must not disturb a selection. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set an attribute, or remove it, if that changes anything. */
export function mark(node, name, value) {
  if (value == null || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

/** Put new children in the place of the old ones, if `key` (anything JSON knows) is another one than last time. */
export function redraw(node, key, make) {
  const text = JSON.stringify(key);
  if (node.shownFor === text) return;
  node.shownFor = text;
  node.replaceChildren(...[make()].flat().filter((child) => child != null));
}

const SHAPES = { good: "●", warn: "▲", bad: "■", none: "○", now: "▶" };

/** A state: a shape and a word, of the kind good, warn, bad, none or now. */
export function state(kind, word) {
  return el("span", { class: `state ${kind}` }, el("span", { class: "shape", "aria-hidden": "true" }, SHAPES[kind]), word);
}

/** A count, or that nobody knows it now: no invented zero. */
export const known = (number, form = count) => (number == null ? state("none", "not known") : form(number));

/** A term and what it is, for a <dl>. */
export function fact(term, content, attributes = {}) {
  return el("div", attributes, el("dt", {}, term), el("dd", {}, content));
}

// --- numbers as people read them ----------------------------------------------------------------------------------

/** A count with thin spaces between thousands. */
export const count = (number) => Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");

/** Percent 0-100, with as many decimals as say something. */
export const percent = (share) => (share == null ? "–" : `${Number(share.toFixed(share < 10 ? 2 : 1))} %`);

/** Events per second. */
export const rate = (number) => (number >= 100 ? count(number) : Number(number.toFixed(1)).toString());

/** Seconds, from microseconds to days. */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.01) return `${Number((seconds * 1000).toFixed(1))} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Number((seconds / 3600).toFixed(1))} h` : `${Math.round(seconds / 86400)} days`;
}

/** The time of day here of an ISO 8601 moment; with the date when that is another day. */
export function moment(iso) {
  const at = new Date(iso);
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}
