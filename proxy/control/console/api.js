// The admin API as this page uses it, and the token that it is asked with: kept for this tab alone, never in an address.

const KEY = "crossfade-token";

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (secret) => (secret ? sessionStorage.setItem(KEY, secret) : sessionStorage.removeItem(KEY)),
};

/** The API said no, or nothing. status: 0 without an answer. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the admin API answered ${status}`);
    this.status = status;
    this.problem = problem;
  }
}

/** One request; its JSON. epoch: that must still stand. Throws Refused. */
export async function ask(method, path, body, epoch) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    headers["X-Actor"] = "console";
  }
  if (epoch !== undefined) headers["If-Match"] = String(epoch);
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
    });
  } catch {
    throw new Refused(0, { detail: "The admin API does not answer. Nothing is known of what it did: look, then try again." });
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

/** The path of something of a route. */
export const ofRoute = (route, what) => `/api/v1/routes/${encodeURIComponent(route)}/${what}`;
