// The page: keeps what the stream says, and writes it where it is read.

import { Charts, niceCeiling, svg } from "./charts.js";
import * as model from "./model.js";
import { Stream } from "./stream.js";

const $ = (id) => document.getElementById(id);
const GLYPHS = {
  draining: "M24 11v22M14 24l10 10 10-10",
  "keeping-up": "M13 25l8 8 15-17",
  idle: "M14 24h20",
  paused: "M18 14v20M30 14v20",
  stalled: "M15 15l18 18M33 15 15 33",
  unknown: "M17 18.500a7 7 0 1 1 10 6.300c-2.200 1.200-3 2.400-3 4.700M24 35.500v.5",
};

const pools = new Map(); // name -> {status, arrivedAt, rows}
const memory = { wanted: null, chosen: null, slotSeconds: 0.5, historySeconds: 600, staleAfter: 5, offset: 0, linkLost: null, announced: null };
const charts = new Charts($("charts"), memory.historySeconds);
const serverNow = () => Date.now() / 1000 + memory.offset;

function onHistory(history) {
  memory.staleAfter = history.stale_after_seconds;
  memory.historySeconds = history.history_seconds;
  memory.offset = history.now - Date.now() / 1000;
  pools.clear();
  for (const [name, view] of Object.entries(history.pools)) {
    const rows = history.rows[name].map((row) => Object.fromEntries(history.columns.map((column, i) => [column, row[i]])));
    pools.set(name, { status: view.last_known, arrivedAt: history.now - view.age_seconds, rows });
  }
  render();
}

function onStatus({ arrived_at: arrivedAt, status }) {
  // A late message makes the offset too small, never too large; it may still sink slowly after a clock was set.
  memory.offset = Math.max(arrivedAt - Date.now() / 1000, memory.offset - 0.05);
  const pool = pools.get(status.pool) ?? { rows: [] };
  Object.assign(pool, { status, arrivedAt });
  const row = {
    at: arrivedAt, backlog: model.backlog(status), burst: status.burst, failed_total: status.failed_total,
    arrival_per_second: status.arrival_per_second, drain_per_second: status.drain_per_second,
    effective_per_second: status.effective_per_second, starts_max_sliding_second: status.starts_max_sliding_second,
    workers_current: status.workers_current, workers_desired: status.workers_desired,
  };
  const newest = pool.rows[pool.rows.length - 1];
  const slot = (at) => Math.floor(at / memory.slotSeconds);
  if (newest && slot(newest.at) === slot(arrivedAt)) pool.rows.pop();
  pool.rows.push(row);
  while (arrivedAt - pool.rows[0].at > memory.historySeconds) pool.rows.shift();
  pools.set(status.pool, pool);
  render();
}

// -- writing ---------------------------------------------------------------------------------------------------

// Only on change: a screen reader's cursor and a selection survive, and nothing is laid out again.
function write(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
}

function value(id, text, unit = "") {
  const element = $(id);
  const key = text + unit;
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  element.classList.toggle("word", !/\d/.test(text));
  element.classList.toggle("unknown", text === "unknown");
  const whole = unit && text !== "unknown" ? `${text} ${unit}` : text;
  const fit = document.createElement("span");
  let width = 0; // in digits, so that the style sheet can make a long number smaller instead of cutting it
  for (const part of whole.split(/(\d[\d,.]*)/).filter(Boolean)) {
    const small = !/\d/.test(part) && /\d/.test(whole);
    width += part.length * (small ? 0.55 : 1);
    fit.append(Object.assign(document.createElement(small ? "small" : "span"), { textContent: part }));
  }
  fit.style.setProperty("--digits", width);
  element.replaceChildren(fit);
}

function render() {
  const names = model.inOrder(pools.keys());
  memory.chosen = pools.has(memory.wanted) ? memory.wanted : (names[0] ?? null);
  const now = serverNow();
  const stateOf = (pool) => model.state(pool, now, memory.staleAfter, memory.linkLost);
  const states = new Map(names.map((name) => [name, stateOf(pools.get(name))]));
  renderPools(names, states);
  const pool = pools.get(memory.chosen) ?? null;
  const others = names.filter((name) => name !== memory.chosen && states.get(name).verdict !== "fine");
  renderState(states.get(memory.chosen) ?? stateOf(null), pool, others.map((name) => [name, states.get(name)]));
  const known = pool && now - pool.arrivedAt <= memory.staleAfter;
  renderNumbers(known ? pool.status : null, pool?.rows ?? [], now);
  renderLink(pool, now);
  charts.update(pool?.rows ?? [], now);
}

// A tab per pool, with its state: trouble in one of them is seen whichever is open.
function renderPools(names, states) {
  const tabs = $("pools");
  if (tabs.dataset.names !== names.join("\n")) {
    tabs.dataset.names = names.join("\n");
    tabs.replaceChildren(tabs.firstElementChild, ...names.map(newTab));
  }
  for (const input of tabs.querySelectorAll("input")) {
    const found = states.get(input.value);
    const [label, note] = [input.parentElement, input.parentElement.lastElementChild];
    Object.assign(label.dataset, { state: found.key, verdict: found.verdict });
    const text = model.tab(found, pools.get(input.value));
    if (note.textContent !== text) note.textContent = text;
    if (input.checked !== (input.value === memory.chosen)) input.checked = input.value === memory.chosen;
  }
  tabs.hidden = names.length < 2;
  write("pool-name", names.length === 1 ? names[0] : "");
}

function newTab(name) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "pool", value: name, className: "visually-hidden" });
  label.append(input, Object.assign(document.createElement("span"), { textContent: name }), document.createElement("small"));
  return label;
}

function renderState(found, pool, others) {
  const plate = $("plate");
  plate.dataset.state = found.key;
  plate.dataset.verdict = found.verdict;
  write("state", found.word);
  write("sentence", found.sentence);
  write("verdict", model.VERDICTS[found.verdict]);
  $("glyph").lastElementChild.setAttribute("d", GLYPHS[found.key]);
  const elsewhere = others.map(([name, { word, verdict }]) => ` ${name}: ${word}. ${model.VERDICTS[verdict]}.`).join("");
  const announced = `${found.word}. ${model.VERDICTS[found.verdict]}.${elsewhere}`;
  if (memory.announced !== announced) write("announce", `${found.word}. ${model.VERDICTS[found.verdict]}. ${found.sentence}${elsewhere}`);
  memory.announced = announced;
  const left = pool && found.key !== "unknown" ? ` ${model.count(model.backlog(pool.status))}` : "";
  const title = `${found.verdict === "fine" && !others.length ? "" : "! "}${found.word}${left} · Peakclip`;
  if (document.title !== title) document.title = title;
}

function renderNumbers(status, rows, now) {
  const known = status != null;
  const left = known ? model.backlog(status) : null;
  value("backlog", model.count(left));
  write("backlog-note", known && left != null ? backlogNote(status) : "");
  const eta = known ? model.eta(status, now) : { value: "unknown", note: "" };
  value("eta", eta.value);
  write("eta-note", eta.note);
  value("drain", model.rate(known ? status.drain_per_second : null), "/s");
  write("drain-note", known ? drainNote(status) : "");
  value("arrivals", model.rate(known ? status.arrival_per_second : null), "/s");
  write("arrivals-note", arrivalsNote(status));
  value("sliding", model.count(known ? status.starts_max_sliding_second : null));
  write("sliding-note", known && status.burst != null ? `starts; ${model.limit(status.effective_per_second + status.burst)} allowed` : "");
  value("workers", model.count(known ? status.workers_current : null));
  write("workers-note", known ? `${model.count(status.workers_desired)} wanted, ${model.count(status.workers_ceiling)} useful at most` : "");
  value("processed", model.count(known ? status.processed_total : null));
  write("processed-note", known && status.average_processing_seconds != null ? `${(status.average_processing_seconds * 1000).toFixed(0)} ms each` : "");
  value("failed", model.count(known ? status.failed_total : null));
  write("failed-note", known ? model.failedNote(status, rows) : "");
  write("reason", known ? model.decision(status) : "unknown");
  renderGauge(status);
  renderPips(status);
}

function backlogNote(status) {
  const oldest = status.oldest_seconds == null || !model.backlog(status) ? "" : `oldest ${model.duration(status.oldest_seconds)}, `;
  return `${oldest}${model.count(status.lag_in_flight)} in hand`;
}

function drainNote(status) {
  const { limit_per_second: set, effective_per_second: effective, burst } = status;
  const allowed = burst == null ? "" : `, up to +${burst} in one second`;
  return effective === set ? `limit R ${model.limit(set)}/s${allowed}` : `now ${model.limit(effective)}/s of R ${model.limit(set)}/s${allowed}`;
}

function arrivalsNote(status) {
  if (status?.arrival_per_second == null) return "";
  if (status.arrival_per_second === 0) return "nothing arrives";
  const times = status.arrival_per_second / status.effective_per_second;
  return Number.isFinite(times) ? `${times >= 10 ? times.toFixed(0) : times.toFixed(1)} × the limit` : "";
}

// A linear scale from 0; R and the burst above it are a band, the drain is a bar with a needle.
function renderGauge(status) {
  const gauge = $("gauge");
  const key = status ? [status.drain_per_second, status.limit_per_second, status.effective_per_second, status.burst].join() : "";
  if (gauge.dataset.key === key) return;
  gauge.dataset.key = key;
  gauge.replaceChildren();
  svg("rect", { class: "rail", x: 0, y: 8, width: "100%", height: 10 }, gauge);
  if (!status) return;
  const { limit_per_second: set, effective_per_second: effective, burst, drain_per_second: drain } = status;
  const top = Math.max((set + (burst ?? 0)) * 1.25, (drain ?? 0) * 1.1, 1);
  const at = (number) => `${((number / top) * 100).toFixed(3)}%`;
  if (burst != null) svg("rect", { class: "band", x: at(effective), y: 4, width: at(burst), height: 18 }, gauge);
  if (drain != null) svg("rect", { class: "bar", x: 0, y: 8, width: at(drain), height: 10 }, gauge);
  if (effective !== set) mark(gauge, at(set), "set", `R ${model.limit(set)}`);
  mark(gauge, at(effective), "limit", effective === set ? `R ${model.limit(set)}` : `now ${model.limit(effective)}`);
  svg("text", { class: "scale", x: 0, y: 36 }, gauge).textContent = "0";
}

function mark(gauge, x, kind, text) {
  svg("line", { class: kind, x1: x, x2: x, y1: 4, y2: 22 }, gauge);
  svg("text", { class: "scale", x, y: 36, "text-anchor": "middle" }, gauge).textContent = text;
}

// One mark per worker: there, wanted but not there, leaving, and room up to the ceiling.
function renderPips(status) {
  const pips = $("pips");
  const [current, desired, ceiling] = status ? [status.workers_current ?? 0, status.workers_desired ?? 0, status.workers_ceiling ?? 0] : [0, 0, 0];
  const shown = Math.max(current, desired, ceiling);
  const per = shown > 40 ? niceCeiling(shown / 40, true) : 1;
  const kinds = Array.from({ length: Math.ceil(shown / per) }, (_, i) => {
    const number = i * per + 1;
    if (number <= current) return number <= desired ? "here" : "leaving";
    return number <= desired ? "wanted" : "room";
  });
  if (pips.dataset.key === kinds.join()) return;
  pips.dataset.key = kinds.join();
  pips.replaceChildren(...kinds.map((kind) => Object.assign(document.createElement("i"), { className: kind })));
}

function renderLink(pool, now) {
  const link = $("link");
  const lost = memory.linkLost != null;
  const silent = !pool || now - pool.arrivedAt > memory.staleAfter;
  link.dataset.link = lost ? "lost" : silent ? "silent" : "live";
  write("link", lost ? "Connection lost" : silent ? "No news" : "Live");
}

function onUp() {
  memory.linkLost = null;
  $("lost").hidden = true;
  render();
}

function onDown(failures) {
  memory.linkLost ??= serverNow();
  const banner = $("lost");
  // Not for the blink of a reconnect that succeeds at once.
  if (failures > 1 && banner.hidden) {
    write("lost", "Connection to the server lost. Trying again by itself; the numbers below are not live.");
    banner.hidden = false;
  }
  render();
}

// The pool is in the address, so that a reload or a link shows the same one.
function choose(name) {
  memory.wanted = name;
  render();
}
$("pools").addEventListener("change", (event) => {
  history.replaceState(null, "", `#${encodeURIComponent(event.target.value)}`);
  choose(event.target.value);
});
const inAddress = () => {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ""; // a stray % in a link
  }
};
addEventListener("hashchange", () => choose(inAddress()));
memory.wanted = inAddress();
new Stream("v1/status/stream", "v1/status", { history: onHistory, status: onStatus, up: onUp, down: onDown });
setInterval(render, 1000);
