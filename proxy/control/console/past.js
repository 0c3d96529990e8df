// What the page remembers of each route: the last five minutes, from what the instance has kept and from what it tells.

import { ask, ofRoute } from "./api.js";
import { Series, SPAN } from "./chart.js";

const WAIT = 20; // seconds: the instance gives its disk 15
const BUSY = 429; // somebody else reads past figures just now
const TRIES = 8;

/** One side's lines. */
class SidePast {
  constructor() {
    this.rate = new Series();
    this.errors = new Series();
    this.latency = new Series();
  }
}

/** A route's lines. */
export class Past {
  constructor(route) {
    this.route = route;
    this.target = new Series();
    this.observed = new Series();
    this.sides = { old: new SidePast(), new: new SidePast() };
    this.isAsked = false;
  }

  /** A snapshot's figures. at: seconds since 1970. */
  take(at, route, lately) {
    this.target.add(at, route.weight_target);
    this.observed.add(at, route.weight_observed);
    for (const [name, side] of Object.entries(this.sides)) {
      side.rate.add(at, lately[name].rate);
      side.errors.add(at, lately[name].error_rate);
      side.latency.add(at, route.sides[name].p99); // over ten seconds, as what is fetched
    }
  }

  /** Fetch what was before the page was opened; once. now: of the instance, whose clock may differ from this machine's. */
  async fetch(now) {
    if (this.isAsked) return;
    this.isAsked = true;
    const since = (now - SPAN).toFixed(0);
    for (let left = TRIES; left > 0; left -= 1) {
      try {
        this.fill(await ask("GET", `${ofRoute(this.route, "figures")}?since=${since}&points=${SPAN / 5}`, undefined, { wait: WAIT }));
        return;
      } catch (error) {
        if (error.status !== BUSY) return; // the lines then begin with the page
        await new Promise((resolve) => setTimeout(resolve, 500 + Math.random() * 500));
      }
    }
  }

  fill(figures) {
    const points = (of) => figures.points.map((point) => [Date.parse(point.at) / 1000 + point.seconds, of(point)]);
    this.target.prepend(points((point) => point.weight_target));
    this.observed.prepend(points((point) => point.weight_observed));
    for (const [name, side] of Object.entries(this.sides)) {
      side.rate.prepend(points((point) => (point.seconds ? point.sides[name].answers / point.seconds : null)));
      side.errors.prepend(points((point) => point.sides[name].error_rate));
      side.latency.prepend(points((point) => point.sides[name].p99));
    }
  }
}
