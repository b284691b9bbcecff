// Four small charts on one time axis, drawn as SVG. The reading follows the pointer or the arrow keys.

import { clock, count, limit as plain, rate } from "./model.js";

const NS = "http://www.w3.org/2000/svg";
const GUTTER = 46; // px for the scale's numbers
const TOP = 6;
const GAP_SECONDS = 5; // a longer silence is a gap: nothing is drawn across it

export const PANELS = [
  { key: "arrivals", title: "Arrivals", unit: "/s", format: rate, floor: 10, traces: [["data area", "arrival_per_second"]] },
  { key: "backlog", title: "Backlog", unit: "", format: count, floor: 10, whole: true, traces: [["data area", "backlog"]] },
  { key: "drain", title: "Drain", unit: "/s", format: rate, floor: 1, limit: true, legend: ["limit", "limit R"], traces: [["data", "drain_per_second"]] },
  { key: "workers", title: "Workers", unit: "", format: count, floor: 4, whole: true, step: true, legend: ["desired", "wanted"],
    traces: [["desired", "workers_desired"], ["data", "workers_current"]] },
];

export function svg(name, attributes = {}, parent = null) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

const STEPS = [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10];

// The next round number above the value: the scale moves seldom, and half of it can still be read.
export function niceCeiling(value, whole = false) {
  const power = 10 ** Math.floor(Math.log10(value));
  const fits = (top) => top >= value * 0.9999 && !(whole && top % 2);
  return STEPS.map((step) => Math.round(step * power * 100) / 100).find(fits) ?? 10 * power;
}

// How far back the axis reaches: a run of two minutes fills the charts, and the axis grows in two steps with it.
export function spanFor(ageSeconds, longest) {
  return [120, 300].find((span) => ageSeconds <= span && span < longest) ?? longest;
}

function ago(seconds) {
  if (!seconds) return "now";
  return seconds < 120 && seconds % 60 ? `−${seconds} s` : `−${+(seconds / 60).toFixed(1)} min`;
}

// Runs of rows without a gap between them.
export function runs(rows) {
  const found = [];
  for (const row of rows) {
    const run = found[found.length - 1];
    if (run && row.at - run[run.length - 1].at <= GAP_SECONDS) run.push(row);
    else found.push([row]);
  }
  return found;
}

function pathOf(run, value, x, y, step) {
  let path = "";
  let open = false;
  let before = null;
  for (const row of run) {
    const number = value(row);
    if (number == null) {
      open = false;
      continue;
    }
    const [px, py] = [x(row.at).toFixed(1), y(number).toFixed(1)];
    if (!open) path += `M${px} ${py}`;
    else path += step && before !== py ? `H${px}V${py}` : `L${px} ${py}`;
    open = true;
    before = py;
  }
  return path;
}

export class Charts {
  constructor(root, historySeconds) {
    this.root = root;
    this.longest = this.span = historySeconds;
    this.rows = [];
    this.now = 0;
    this.cursor = null; // seconds before now, or null
    this.panels = PANELS.map((panel) => this.build(panel));
    this.axis = svg("svg", { class: "axis", "aria-hidden": "true" });
    root.append(this.axis);
    new ResizeObserver(() => this.draw()).observe(root);
    root.addEventListener("pointermove", (event) => this.point(event));
    root.addEventListener("pointerdown", (event) => this.point(event));
    root.addEventListener("pointerleave", () => this.read(null));
    root.addEventListener("blur", () => this.read(null));
    root.addEventListener("keydown", (event) => this.key(event));
  }

  build(panel) {
    const figure = document.createElement("figure");
    figure.className = `chart ${panel.key}`;
    const caption = document.createElement("figcaption");
    const title = document.createElement("span");
    title.textContent = panel.title;
    if (panel.legend) {
      const [className, textContent] = panel.legend;
      title.append(Object.assign(document.createElement("span"), { className: `key ${className}`, textContent }));
    }
    const reading = document.createElement("output");
    reading.setAttribute("aria-live", "off"); // the slider's value text speaks for all four
    caption.append(title, reading);
    const drawing = svg("svg", { "aria-hidden": "true" });
    figure.append(caption, drawing);
    this.root.append(figure);
    return { ...panel, drawing, reading };
  }

  update(rows, now) {
    this.rows = rows;
    this.now = now;
    this.reach(spanFor(rows.length ? now - rows[0].at : 0, this.longest));
    this.draw();
  }

  reach(span) {
    if (span === this.span) return;
    this.span = span;
    if (this.cursor > span) this.read(span);
    this.root.setAttribute("aria-valuemin", String(-span));
    this.root.setAttribute("aria-label", `Last ${span / 60} minutes; arrow keys move the reading`);
  }

  point(event) {
    const box = this.panels[0].drawing.getBoundingClientRect();
    const part = (event.clientX - box.left - GUTTER) / (box.width - GUTTER);
    this.read(part < -0.02 || part > 1.02 ? null : (1 - Math.min(1, Math.max(0, part))) * this.span);
  }

  key(event) {
    const stride = event.shiftKey ? 60 : 5;
    const moves = { ArrowLeft: stride, ArrowDown: stride, ArrowRight: -stride, ArrowUp: -stride, PageUp: -60, PageDown: 60 };
    const jumps = { Home: this.span, End: 0 };
    if (event.key === "Escape") return this.read(null);
    if (!(event.key in moves) && !(event.key in jumps)) return;
    event.preventDefault();
    const next = event.key in jumps ? jumps[event.key] : (this.cursor ?? 0) + moves[event.key];
    this.read(Math.min(this.span, Math.max(0, next)));
  }

  read(cursor) {
    if (cursor === this.cursor) return;
    this.cursor = cursor;
    this.draw();
    this.root.setAttribute("aria-valuenow", String(-Math.round(cursor ?? 0)));
    this.root.setAttribute("aria-valuetext", this.spoken());
  }

  // The row nearest to the cursor, or the newest; undefined when there is none within a gap's length.
  rowRead() {
    const at = this.now - (this.cursor ?? 0);
    let best;
    for (const row of this.rows) if (!best || Math.abs(row.at - at) <= Math.abs(best.at - at)) best = row;
    return best && Math.abs(best.at - at) <= GAP_SECONDS ? best : undefined;
  }

  spoken() {
    const row = this.rowRead();
    const at = clock(this.now - (this.cursor ?? 0));
    if (!row) return `${at}: unknown`;
    const parts = PANELS.map((panel) => {
      const [, name] = panel.traces[panel.traces.length - 1];
      return `${panel.title.toLowerCase()} ${panel.format(row[name])}${row[name] != null && panel.unit ? " a second" : ""}`;
    });
    return `${at}: ${parts.join(", ")}`;
  }

  draw() {
    const width = this.root.clientWidth && this.panels[0].drawing.clientWidth;
    if (!width || !this.now) return;
    const start = this.now - this.span;
    const x = (at) => GUTTER + ((at - start) / this.span) * (width - GUTTER);
    const rows = this.rows.filter((row) => row.at >= start);
    const read = this.rowRead();
    for (const panel of this.panels) this.drawPanel(panel, { rows, width, x, read });
    this.drawAxis(width, x);
  }

  drawPanel(panel, { rows, width, x, read }) {
    const { drawing, traces, limit } = panel;
    const height = drawing.clientHeight;
    let highest = panel.floor;
    for (const row of rows) {
      for (const [, name] of traces) highest = Math.max(highest, row[name] ?? 0);
      if (limit) highest = Math.max(highest, (row.effective_per_second + (row.burst ?? 0)) * 1.1);
    }
    const top = niceCeiling(highest, panel.whole);
    const y = (value) => TOP + (1 - value / top) * (height - TOP - 1);
    drawing.replaceChildren();
    for (const part of [0, 0.5, 1]) {
      const at = Math.round(y(top * part)) + 0.5;
      svg("line", { class: part ? "grid" : "base", x1: GUTTER, x2: width, y1: at, y2: at }, drawing);
      const label = svg("text", { class: "scale", x: GUTTER - 8, y: Math.max(9, at + (part ? 3.5 : -1)) }, drawing);
      label.textContent = short(top * part);
    }
    const found = runs(rows);
    this.drawSilence(drawing, found, x, height);
    for (const run of found) {
      if (limit) drawLimit(drawing, run, x, y);
      for (const [kind, name] of traces) drawTrace(drawing, run, { kind, name, x, y, step: panel.step });
    }
    if (this.cursor != null) {
      const at = x(this.now - this.cursor);
      svg("line", { class: "cursor", x1: at, x2: at, y1: 0, y2: height }, drawing);
      const name = traces[traces.length - 1][1];
      if (read?.[name] != null) svg("circle", { class: "dot", cx: x(read.at), cy: y(read[name]), r: 3.5 }, drawing);
    }
    panel.reading.textContent = reading(panel, read);
  }

  drawSilence(drawing, found, x, height) {
    const hatch = (from, to) =>
      svg("rect", { class: "silence", x: x(from), y: TOP, width: Math.max(0, x(to) - x(from)), height: height - TOP }, drawing);
    for (let i = 1; i < found.length; i++) hatch(found[i - 1][found[i - 1].length - 1].at, found[i][0].at);
    const newest = this.rows[this.rows.length - 1];
    if (newest && this.now - newest.at > GAP_SECONDS) hatch(Math.max(newest.at, this.now - this.span), this.now);
  }

  drawAxis(width, x) {
    this.axis.replaceChildren();
    const parts = width < 420 ? 2 : this.span === 120 ? 4 : 5;
    for (let part = parts; part >= 0; part--) {
      const seconds = (this.span * part) / parts;
      const anchor = part === 0 ? "end" : part === parts ? "start" : "middle";
      const label = svg("text", { class: "scale", x: x(this.now - seconds), y: 13, "text-anchor": anchor }, this.axis);
      label.textContent = ago(seconds);
    }
    if (this.cursor == null) return;
    const at = Math.min(width - 30, Math.max(GUTTER + 24, x(this.now - this.cursor)));
    svg("rect", { class: "flag", x: at - 30, y: 0, width: 60, height: 18, rx: 3 }, this.axis);
    svg("text", { class: "flag-text", x: at, y: 13, "text-anchor": "middle" }, this.axis).textContent = clock(this.now - this.cursor);
  }
}

function drawTrace(drawing, run, { kind, name, x, y, step }) {
  const line = pathOf(run, (row) => row[name], x, y, step);
  if (!line) return;
  if (kind.includes("area")) {
    const known = run.filter((row) => row[name] != null);
    const [first, end] = [known[0], known[known.length - 1]];
    if (known.length === run.length)
      svg("path", { class: "fill", d: `${line}V${y(0)}H${x(first.at)}Z`, "data-end": end.at }, drawing);
  }
  svg("path", { class: `trace ${kind.split(" ")[0]}`, d: line }, drawing);
}

// R as a line, and above it what the burst allows.
function drawLimit(drawing, run, x, y) {
  const lower = pathOf(run, (row) => row.effective_per_second, x, y, true);
  const backwards = [...run].reverse();
  if (run.every((row) => row.burst != null)) {
    const upper = backwards.map((row) => `L${x(row.at).toFixed(1)} ${y(row.effective_per_second + row.burst).toFixed(1)}`);
    svg("path", { class: "band", d: `${lower}${upper.join("")}Z` }, drawing);
  }
  svg("path", { class: "trace limit", d: lower }, drawing);
}

function reading(panel, row) {
  if (!row) return "unknown";
  const name = panel.traces[panel.traces.length - 1][1];
  const value = panel.format(row[name]) + (row[name] == null ? "" : panel.unit);
  if (panel.limit) return `${value} of R ${plain(row.effective_per_second)}`;
  if (panel.key === "workers") return `${value}, wanted ${count(row.workers_desired)}`;
  return value;
}

function short(value) {
  if (value >= 1e6) return `${+(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${+(value / 1e3).toFixed(1)}k`;
  return Number.isInteger(value) ? count(value) : String(+value.toFixed(2));
}
