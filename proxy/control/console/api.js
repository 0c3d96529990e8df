// The admin API as this page uses it, and the token that it is asked with: kept for this tab alone, never in an address.

const KEY = "crossfade-token";

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (secret) => (secret ? sessionStorage.setItem(KEY, secret) : sessionStorage.removeItem(KEY)),
};

/** Seconds that an answer may take. A change waits for the workers and the ledger, of which each has its own bound. */
const WAIT = 15;

/** The API said no, or nothing. status: 0 without an answer. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the admin API answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/** One request; its JSON. epoch: that must still stand; wait: seconds for its answer. Throws Refused. */
export async function ask(method, path, body, { epoch, wait = WAIT } = {}) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    headers["X-Actor"] = "console";
  }
  if (epoch !== undefined) headers["If-Match"] = String(epoch);
  const signal = AbortSignal.timeout(wait * 1000);
  let answer;
  let said;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal,
    });
    said = await answer.json();
  } catch {
    if (!answer || answer.ok || signal.aborted) {
      throw new Refused(0, { detail: unanswered(method, body, signal.aborted ? ` within ${wait} s` : "") });
    }
    said = {}; // something in between refused it, in words of its own
  }
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

function unanswered(method, body, time) {
  const isChange = method !== "GET" && !body?.dry_run;
  return `The admin API did not answer${time}. ${isChange ? "Nothing is known of what it did: look, then try again." : "Nothing was changed."}`;
}

/** The path of something of a route. */
export const ofRoute = (route, what) => `/api/v1/routes/${encodeURIComponent(route)}/${what}`;
