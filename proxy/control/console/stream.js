// The instance's stream of Server-sent events, read with fetch: EventSource could not send the token, and an address is
// no place for one. It is begun anew when it ends, and rests while nobody looks at the page.

const SILENCE = 15000; // ms without a sign of life (one is due every 5 s) after which the connection counts as lost
const STALE = 3000; // ms without a snapshot (one is due every 0.5 s) after which what is shown is of the past
const MOST_WAIT = 10000; // ms between two tries
const UNSEEN = 60000; // ms that the page may be hidden before its stream ends

/**
 * Reads events until it is stopped. told(kind, data, id), changed(state): connecting, live, stale, lost, refused, resting.
 * Live is a connection that brings snapshots: one that is merely open, with signs of life, says nothing of the present.
 */
export class Stream {
  constructor(path, { token, told, changed }) {
    this.path = path;
    this.token = token;
    this.told = told;
    this.changed = changed;
    this.retry = 1000;
    this.attempts = 0;
    this.unseen = 0;
    this.aging = 0;
    this.freshAt = 0;
    document.addEventListener("visibilitychange", () => this.seen());
  }

  /** Begin, or begin anew with another token. */
  start() {
    this.stop();
    this.attempts = 0;
    this.changed("connecting");
    this.run((this.running = new AbortController()));
  }

  stop() {
    this.running?.abort();
    clearTimeout(this.unseen);
    clearTimeout(this.aging);
  }

  /** The next snapshot is due within STALE, or twice the time that this one took: with very many routes they are rarer. */
  fresh() {
    const now = performance.now();
    const wait = Math.min(SILENCE, Math.max(STALE, 2 * (now - this.freshAt)));
    this.freshAt = now;
    clearTimeout(this.aging);
    this.aging = setTimeout(() => this.changed("stale"), wait);
  }

  /** The page was hidden or is looked at again. */
  seen() {
    clearTimeout(this.unseen);
    if (document.hidden) {
      this.unseen = setTimeout(() => {
        this.stop();
        this.changed("resting");
      }, UNSEEN);
    } else if (this.running?.signal.aborted) {
      this.start();
    }
  }

  async run(running) {
    while (!running.signal.aborted) {
      let wait = Math.min(MOST_WAIT, this.retry * 1.5 ** this.attempts++) * (0.75 + Math.random() / 2);
      try {
        const answer = await this.ask(running);
        if (answer.ok) await this.read(answer.body, running);
        else if (answer.status === 401 || answer.status === 403) return this.refuse(running, await answer.json());
        else wait = 1000 * (Number(answer.headers.get("Retry-After")) || wait / 1000);
      } catch {
        // Whatever it was, a connection that cannot be made or one that broke: it is tried again.
      }
      if (running.signal.aborted) return;
      clearTimeout(this.aging);
      this.changed("lost");
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  ask(running) {
    const headers = { Accept: "text/event-stream" };
    const token = this.token();
    if (token) headers.Authorization = `Bearer ${token}`;
    return fetch(this.path, { headers, signal: running.signal, cache: "no-store", credentials: "omit" });
  }

  refuse(running, problem) {
    running.abort();
    this.changed("refused", problem.detail);
  }

  async read(body, running) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const stop = () => reader.cancel().catch(() => {});
    running.signal.addEventListener("abort", stop);
    let rest = "";
    this.freshAt = performance.now();
    this.fresh();
    try {
      for (;;) {
        const { done, value } = await within(SILENCE, reader.read());
        if (done) return;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        events.forEach((text) => this.take(text));
      }
    } finally {
      running.signal.removeEventListener("abort", stop);
      stop();
    }
  }

  take(text) {
    const fields = {};
    for (const line of text.split("\n")) {
      const colon = line.indexOf(": ");
      if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
    }
    if (fields.retry) this.retry = Number(fields.retry);
    if (!fields.event) return;
    this.attempts = 0;
    const data = JSON.parse(fields.data);
    try {
      this.told(fields.event, data, fields.id);
    } catch (error) {
      reportError(error); // a fault of the page, and none of the connection
      return;
    }
    if (fields.event !== "snapshot") return;
    this.fresh();
    this.changed("live");
  }
}

function within(milliseconds, promise) {
  let timer = 0;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("nothing came")), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
