// What the numbers mean, in words. Pure: no clock, no document. Unknown is null and is never shown as zero.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const tenths = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const STALLED_AFTER = 10; // seconds without one finished order while there is a backlog
const BACKLOG_SECONDS = 2; // up to this much work at the limit is keeping up if none of it is old, more is draining

export const count = (value) => (value == null ? "unknown" : whole.format(value));
export const rate = (value) => (value == null ? "unknown" : (value >= 1000 ? whole : tenths).format(value));
export const limit = (value) => (Number.isInteger(value) ? whole : tenths).format(value);
export const clock = (epochSeconds) => clockFormat.format(epochSeconds * 1000);

// What a pool works on: one of it, several of it.
const NOUNS = { orders: ["order", "orders"], effects: ["event", "events"], reaper: ["unpaid order", "unpaid orders"] };
const nouns = (status) => NOUNS[status.pool] ?? ["message", "messages"];
const things = (value, status) => `${count(value)} ${nouns(status)[value === 1 ? 0 : 1]}`;
const capital = (text) => text[0].toUpperCase() + text.slice(1);

export function duration(seconds) {
  const total = Math.max(0, Math.round(seconds));
  if (total < 60) return `${total} s`;
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const two = (value) => String(value).padStart(2, "0");
  if (hours >= 48) return `${Math.round(hours / 24)} days`;
  return hours ? `${hours} h ${two(minutes)} min` : `${minutes} min ${two(rest)} s`;
}

export function backlog(status) {
  if (status.lag_ready == null || status.lag_in_flight == null) return null;
  return status.lag_ready + status.lag_in_flight;
}

const net = (status) =>
  status.arrival_per_second == null || status.drain_per_second == null
    ? null
    : status.drain_per_second - status.arrival_per_second;

// Time to an empty queue: the number, and what to say when there is none.
export function eta(status, now) {
  const left = backlog(status);
  if (left === 0) return { value: "empty", note: "nothing is waiting" };
  if (status.eta_seconds != null)
    return { value: duration(status.eta_seconds), note: `about ${clock(now + status.eta_seconds)}` };
  if (left == null) return { value: "unknown", note: "the backlog cannot be read" };
  if (status.paused) return { value: "never", note: "while the pool is paused" };
  if (net(status) != null && net(status) <= 0)
    return { value: "never", note: status.arrival_per_second > 0 ? "at this rate: more arrives" : "at this rate" };
  return { value: "unknown", note: "not enough measured yet" };
}

// Seconds for which there has been a backlog and nothing was finished; 0 if something was.
function stalledFor(rows, status) {
  if (!(backlog(status) > 0) || status.drain_per_second !== 0) return 0;
  let since = null;
  for (let i = rows.length - 1; i >= 0; i--) {
    const row = rows[i];
    if (!(row.backlog > 0) || row.drain_per_second !== 0 || (since != null && since - row.at > 5)) break;
    since = row.at;
  }
  return since == null ? 0 : rows[rows.length - 1].at - since;
}

// The newest time a sliding second was seen to grow past what the limits around it allow; null if never.
// The maximum is since a worker's start, so an old one under an old, higher limit says nothing about now.
export function breach(rows) {
  let found = null;
  for (let i = 1; i < rows.length; i++) {
    const [before, row] = [rows[i - 1], rows[i]];
    if (before.starts_max_sliding_second == null || row.burst == null) continue;
    if (!(row.starts_max_sliding_second > before.starts_max_sliding_second)) continue;
    let highest = row.effective_per_second;
    for (let j = i; j >= 0 && row.at - rows[j].at <= 5; j--) highest = Math.max(highest, rows[j].effective_per_second);
    if (row.starts_max_sliding_second > highest + row.burst) found = row.at;
  }
  return found;
}

// Growth of a total over the last minute; null when the rows do not reach back or the count began anew.
export function failedLately(rows) {
  const last = rows[rows.length - 1];
  const first = last && rows.find((row) => last.at - row.at <= 60);
  if (!first || last.failed_total < first.failed_total) return null;
  return last.failed_total - first.failed_total;
}

// The state line. `pool` is {status, arrivedAt, rows} or null; `linkLost` is null or the time of the loss.
export function state(pool, now, staleAfter, linkLost) {
  const age = pool ? now - pool.arrivedAt : null;
  if (linkLost != null && (age == null || age > staleAfter))
    return said("unknown", "act", `No connection to the server for ${duration(now - linkLost)}.${last(pool)}`);
  if (!pool) return said("unknown", "look", "No news from a controller yet.");
  if (age > staleAfter)
    return said("unknown", "act", `No news from the controller for ${duration(age)}.${last(pool)}`);
  const { status, rows } = pool;
  const found = running(status, rows);
  if (breach(rows) != null)
    return { ...found, verdict: "act", sentence: `The limit was exceeded at ${clock(breach(rows))}. ${found.sentence}` };
  const failed = failedLately(rows);
  if (failed > 0 && found.verdict === "fine")
    return { ...found, verdict: "look", sentence: `${found.sentence} ${count(failed)} attempts failed in the last minute.` };
  return found;
}

function running(status, rows) {
  const left = backlog(status);
  if (left == null) return said("unknown", "act", "The controller cannot read the backlog. It holds what it has.");
  if (status.paused) return said("paused", "look", `${things(left, status)} waiting. Nothing starts until the pool is resumed.`);
  const stalled = stalledFor(rows, status);
  if (stalled >= Math.max(STALLED_AFTER, 3 / status.effective_per_second))
    return said("stalled", "act", `${things(left, status)} waiting, and none has finished for ${duration(stalled)}.`);
  const late = left > 0 && status.oldest_seconds > Math.max(STALLED_AFTER, 3 / status.effective_per_second);
  if (late || left > Math.max(1, status.effective_per_second * BACKLOG_SECONDS)) return draining(status, left);
  if (left === 0 && status.arrival_per_second === 0) return said("idle", "fine", `Nothing is waiting and nothing arrives.${delayed(status)}`);
  return said("keeping-up", "fine", `${capital(nouns(status)[1])} are worked on as they arrive.${delayed(status)}`);
}

// Those that failed wait for their next attempt beside the line, not in it.
function delayed(status) {
  if (!(status.lag_delayed > 0)) return "";
  return ` ${things(status.lag_delayed, status)} ${status.lag_delayed === 1 ? "waits" : "wait"} for another attempt.`;
}

// What a pool's tab says beside its name: what is to be looked at, or else the backlog.
export function tab(found, pool) {
  if (found.verdict !== "fine") return VERDICTS[found.verdict];
  return compact.format(backlog(pool.status));
}

// Where people expect it: orders first, the others by name.
export const inOrder = (names) => [...names].sort((a, b) => (b === "orders") - (a === "orders") || (a < b ? -1 : 1));

// Below the failed attempts: those of the last minute, and those that wait for another one.
export function failedNote(status, rows) {
  const lately = failedLately(rows);
  const waiting = status.lag_delayed === 0 ? "" : `${count(status.lag_delayed)} delayed`;
  if (lately == null) return waiting;
  const number = lately ? count(lately) : "none";
  return waiting ? `${number} lately, ${waiting}` : `${number} in last minute`;
}

function draining(status, left) {
  const gain = net(status);
  if (status.eta_seconds != null)
    return said("draining", "fine", `${things(left, status)} left, empty in ${duration(status.eta_seconds)}.`);
  if (gain != null && gain < 0)
    return said("draining", "look", `${things(left, status)} waiting and ${rate(-gain)} more every second.`);
  return said("draining", "look", `${things(left, status)} waiting. When it ends is not known yet.`);
}

const WORDS = { unknown: "Unknown", paused: "Paused", stalled: "Stalled", draining: "Draining", idle: "Idle", "keeping-up": "Keeping up" };
const said = (key, verdict, sentence) => ({ key, word: WORDS[key], verdict, sentence });
export const VERDICTS = { fine: "Fine", look: "Look", act: "Act" };

function last(pool) {
  if (!pool) return "";
  const left = backlog(pool.status);
  return ` Last known, at ${clock(pool.arrivedAt)}: ${left == null ? "backlog unknown" : `${count(left)} waiting`}.`;
}

const REASONS = {
  LagUnknown: "The backlog cannot be read, so the workers stay as they are",
  Paused: "The pool is paused",
  AtMaximum: "The largest allowed number of workers does not reach the limit",
  CatchingUp: "A backlog is being worked off",
  Stabilizing: "Fewer would do, but the need is not old enough to give any back",
  KeepingUp: "As many as the arrivals need",
  Idle: "There is nothing to do",
};
const BINDINGS = {
  limit: "bound by the rate limit",
  "catch-up": "none is given back during a backlog",
  ceiling: "bound by what the limit can use",
  maximum: "bound by the largest allowed number",
  "keeping-up": "enough by what they are seen to do",
  shortfall: "one more is tried because the rate is not reached",
  minimum: "bound by the smallest allowed number",
};

// The controller's reason and constraint as a sentence; a word not known here is shown as it came.
export function decision(status) {
  const plain = (text) => text.replace(/([a-z])([A-Z])/g, "$1 $2").replace(/[-_]/g, " ");
  const reason = REASONS[status.reason] ?? plain(status.reason);
  const saidAlready = new Set(["unknown", "paused", "stabilization", "demand", ""]);
  const binding = saidAlready.has(status.binding_constraint) ? "" : (BINDINGS[status.binding_constraint] ?? plain(status.binding_constraint));
  return binding ? `${reason}; ${binding}.` : `${reason}.`;
}
