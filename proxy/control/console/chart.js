// Lines of the last five minutes, drawn as SVG: one of a figure, and the ribbon of a route's weight.

import { mark, svg } from "./dom.js";

export const SPAN = 300; // seconds that are shown at most
const LEAST = 60; // seconds that are shown at least
const WIDTH = 600;
const GAP = 25; // seconds between two points beyond which nothing is known, so that nothing is drawn

/** Points of one figure: [seconds since 1970, value or null], oldest first. What is older than SPAN is dropped. */
export class Series {
  constructor() {
    this.points = [];
  }

  add(at, value) {
    const last = this.points.at(-1);
    if (last && at <= last[0]) return;
    this.points.push([at, value]);
    while (this.points.length && this.points[0][0] < at - SPAN - GAP) this.points.shift();
  }

  /** Earlier points, which were fetched after the later ones came. */
  prepend(points) {
    const first = this.points[0]?.[0] ?? Infinity;
    this.points.unshift(...points.filter(([at]) => at < first));
  }

  get most() {
    return this.points.reduce((most, [, value]) => Math.max(most, value ?? 0), 0);
  }
}

/** How many seconds to show: what is known, within bounds, so that the lines of a young instance fill their place. */
export function spanOf(series, now) {
  return Math.min(SPAN, Math.max(LEAST, now - (series.points[0]?.[0] ?? now)));
}

/** The stretches of points without a gap, as [[x, value]…], x from 0 to WIDTH. */
function stretches(points, now, span) {
  const found = [];
  let last = -Infinity;
  for (const [at, value] of points) {
    const x = WIDTH * (1 - (now - at) / span);
    if (value != null && x >= -20) {
      if (at - last > GAP) found.push([]);
      found.at(-1).push([Math.max(0, x), value]);
      last = at;
    } else if (value == null) {
      last = -Infinity;
    }
  }
  return found;
}

const path = (points, y) => points.map(([x, value], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y(value).toFixed(1)}`).join("");

/** A figure's line. least: the top of its scale is never lower; form: a value as text. */
export class Sparkline {
  constructor(name, { least, form }) {
    this.name = name;
    this.least = least;
    this.form = form;
    this.height = 44;
    this.under = svg("path", { class: "under" });
    this.line = svg("path", { class: "line" });
    const base = svg("path", { class: "base", d: `M0 ${this.height - 0.5}H${WIDTH}` });
    this.node = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${this.height}`, preserveAspectRatio: "none", role: "img" },
      base,
      this.under,
      this.line,
    );
  }

  draw(series, now, span) {
    const top = Math.max(this.least, series.most) * 1.08;
    const y = (value) => this.height - 1 - (value / top) * (this.height - 4);
    const found = stretches(series.points, now, span);
    mark(this.line, "d", found.map((points) => path(points, y)).join("") || "M0 0");
    const floor = this.height;
    const under = (points) => `${path(points, y)}L${points.at(-1)[0].toFixed(1)} ${floor}L${points[0][0].toFixed(1)} ${floor}Z`;
    mark(this.under, "d", found.map(under).join("") || "M0 0");
    mark(this.node, "aria-label", `${this.name} over ${Math.round(span / 60)} min: at most ${this.form(series.most)}`);
  }
}

/** Who answered: new's observed share from below, old's from above, and the target as a dashed line. */
export class Ribbon {
  constructor() {
    this.height = 74;
    const rest = svg("rect", { class: "rest", width: WIDTH, height: this.height });
    this.share = svg("path", { class: "share" });
    this.target = svg("path", { class: "target" });
    this.node = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${this.height}`, preserveAspectRatio: "none", role: "img" },
      rest,
      this.share,
      this.target,
    );
    this.rest = rest;
  }

  draw(observed, target, now, span) {
    const y = (value) => this.height - 1 - (value / 100) * (this.height - 2);
    const known = stretches(observed.points, now, span);
    const under = (points) =>
      `${path(points, y)}L${points.at(-1)[0].toFixed(1)} ${this.height}L${points[0][0].toFixed(1)} ${this.height}Z`;
    mark(this.share, "d", known.map(under).join("") || "M0 0");
    const first = known[0]?.[0][0] ?? WIDTH;
    mark(this.rest, "x", first.toFixed(1));
    mark(this.rest, "width", (WIDTH - first).toFixed(1));
    mark(this.target, "d", stretches(target.points, now, span).map((points) => steps(points, y)).join("") || "M0 0");
    const last = (series) => series.points.at(-1)?.[1];
    const said = last(observed) == null ? "nothing observed" : `observed ${last(observed)} %`;
    mark(this.node, "aria-label", `Share that new answered over ${Math.round(span / 60)} min: now target ${last(target) ?? "–"} %, ${said}`);
  }
}

/** A line that stays until it jumps. */
function steps(points, y) {
  let text = "";
  points.forEach(([x, value], i) => {
    const height = y(value).toFixed(1);
    text += i ? `H${x.toFixed(1)}V${height}` : `M${x.toFixed(1)} ${height}`;
  });
  return text;
}
