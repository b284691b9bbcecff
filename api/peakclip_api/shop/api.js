// The public API: a key in the header, problems as errors, lost answers asked for again with the same key, and events
// over fetch, since a browser's EventSource cannot send a credential.

const TRIES = 6;
const SILENCE_MS = 40000;

export class Problem extends Error {
  constructor(status, kind, detail, body) {
    super(detail);
    Object.assign(this, { status, kind, body });
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Api {
  constructor(key, customer) {
    this.headers = { Authorization: `Bearer ${key}` };
    if (customer) this.headers["Peakclip-Customer"] = customer;
    this.skew = 0; // seconds that the server's clock is ahead of ours
    this.unanswered = new Map(); // keys of POSTs, by what they ask for
  }

  now() {
    return Date.now() / 1000 + this.skew;
  }

  get(path) {
    return this.call("GET", path);
  }

  // A POST has one idempotency key until it is answered: for all of its tries, and for whoever asks for the same again
  // after they have failed. An order whose answer was lost is not ordered twice, a payment not made twice.
  async post(path, body) {
    const text = JSON.stringify(body ?? {});
    const what = `${path} ${text}`;
    const key = this.unanswered.get(what) ?? crypto.randomUUID?.() ?? String(Math.random()).slice(2) + Date.now();
    this.unanswered.set(what, key);
    let answered = true;
    try {
      return await this.call("POST", path, { body: text, key });
    } catch (problem) {
      answered = problem.status > 0 && problem.status < 500;
      throw problem;
    } finally {
      if (answered) this.unanswered.delete(what);
    }
  }

  async call(method, path, { body, key } = {}) {
    const headers = { ...this.headers, ...(key && { "Idempotency-Key": key }), ...(body && { "Content-Type": "application/json" }) };
    for (let attempt = 1; ; attempt++) {
      let answer, found;
      try {
        answer = await fetch(path, { method, headers, body, cache: "no-store", signal: AbortSignal.timeout(15000) });
        const text = await answer.text(); // an answer that breaks off, or is a proxy's, is none
        found = text ? JSON.parse(text) : null;
      } catch (error) {
        if (attempt >= TRIES) throw new Problem(0, "unreachable", "The shop cannot be reached.");
        await pause(Math.min(4000, 300 * 2 ** attempt));
        continue;
      }
      this.note(answer);
      if (answer.ok) return found;
      if ((answer.status === 503 || answer.status === 429) && attempt < TRIES) {
        await pause(1000 * Math.min(5, Number(answer.headers.get("Retry-After")) || 1));
        continue;
      }
      throw new Problem(answer.status, String(found?.type ?? "").split("/").pop(), found?.detail ?? `Error ${answer.status}.`, found);
    }
  }

  note(answer) {
    const date = Date.parse(answer.headers.get("Date") ?? "");
    if (date) {
      const ahead = date / 1000 + 0.5 - Date.now() / 1000; // the header has whole seconds
      if (Math.abs(ahead - this.skew) > 1.5) this.skew = Math.abs(ahead) > 1.5 ? ahead : 0;
    }
  }

  // Calls on.event({id, event, data}) for each event after `last` (null: from now on), for ever; resumes after the last
  // one. on.link(true or false).
  async listen(path, on, last = null) {
    for (let failures = 0; ; ) {
      const stop = new AbortController();
      try {
        const headers = { ...this.headers, Accept: "text/event-stream", ...(last !== null && { "Last-Event-ID": last }) };
        const answer = await fetch(path, { headers, cache: "no-store", signal: stop.signal });
        if (!answer.ok) throw new Problem(answer.status, "", "");
        on.link(true);
        failures = 0;
        for await (const event of events(answer.body, stop)) {
          if (event.id) last = event.id;
          if (event.data) on.event({ ...event, data: JSON.parse(event.data) });
        }
      } catch (error) {
        if (error instanceof Problem && [401, 403, 404].includes(error.status)) return on.link(false);
      }
      stop.abort();
      on.link(false);
      await pause(Math.min(8000, 500 * 2 ** failures++));
    }
  }
}

async function* events(stream, stop) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const silence = setTimeout(() => stop.abort(), SILENCE_MS); // the server sends a heartbeat more often
    const { value, done } = await reader.read();
    clearTimeout(silence);
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) yield parse(block);
  }
}

function parse(block) {
  const event = { id: "", event: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, field, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (field === "data") event.data += (event.data && "\n") + value;
    else if (field) event[field] = value;
  }
  return event;
}
