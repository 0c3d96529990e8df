// Which kind of state each word of the API is: good, warn, bad or none. One place, so that a word looks the same everywhere.

export const BREAKER = { closed: "good", "half-open": "warn", open: "bad" };
export const VERDICT = { pass: "good", fail: "bad", inconclusive: "warn", nodata: "none" };
export const ANSWER = { yes: "good", no: "bad", "no answer": "warn" };
export const PHASE = { paused: "warn", waiting: "warn", reverting: "bad", reverted: "bad", aborted: "warn", done: "good" };
export const ENDED = ["done", "reverted", "aborted"];
export const LINK = {
  connecting: ["none", "connecting"],
  live: ["good", "live"],
  stale: ["warn", "nothing new comes"],
  lost: ["bad", "not connected, trying again"],
  refused: ["bad", "not let in"],
  resting: ["none", "resting while nobody looks"],
};
/** What is said of them to those who listen. */
export const SPOKEN = { stale: "Nothing new comes: the figures are of the past.", lost: "The connection is lost." };

/** A verdict's word as people read it. */
export const verdict = (name) => (name === "nodata" ? "no data" : name);
