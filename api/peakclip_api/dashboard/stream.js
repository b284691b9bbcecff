// The connection: opens the event stream, notices that it died (also when nobody says so), opens it again.

const SILENCE_MS = 15000; // after so long without an event, ask over another connection whether the server is there
const ASK_MS = 5000;
const DELAYS_MS = [500, 1000, 2000, 4000];

export class Stream {
  // on: {history(data), status(data), up(), down(failures)}
  constructor(address, probe, on) {
    Object.assign(this, { address, probe, on, source: null, failures: 0, timer: null, heard: 0, asking: false });
    setInterval(() => this.watch(), 5000);
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && this.open());
    addEventListener("online", () => this.source || this.open());
    this.open();
  }

  open() {
    this.close();
    this.heard = Date.now();
    const source = (this.source = new EventSource(this.address));
    source.addEventListener("history", (event) => {
      this.failures = 0;
      this.heard = Date.now();
      this.on.history(JSON.parse(event.data));
      this.on.up();
    });
    source.addEventListener("status", (event) => {
      this.heard = Date.now();
      this.on.status(JSON.parse(event.data));
    });
    // The browser's own reconnect gives up for good after a wrong status, for example a proxy's 502.
    source.onerror = () => source === this.source && this.lost();
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  lost() {
    this.close();
    this.on.down(++this.failures);
    this.timer = setTimeout(() => this.open(), DELAYS_MS[Math.min(this.failures, DELAYS_MS.length) - 1]);
  }

  // A controller may be silent; a server that does not answer, or knows more than we were told, is a dead stream.
  async watch() {
    if (!this.source || this.asking || Date.now() - this.heard < SILENCE_MS) return;
    this.asking = true;
    const source = this.source;
    try {
      const answer = await fetch(this.probe, { cache: "no-store", signal: AbortSignal.timeout(ASK_MS) });
      const { pools } = await answer.json();
      const silent = (Date.now() - this.heard) / 1000;
      if (!answer.ok || Object.values(pools).some((pool) => pool.age_seconds < silent - 10)) throw new Error("dead");
    } catch {
      if (source === this.source) this.lost();
    } finally {
      this.asking = false;
    }
  }
}
