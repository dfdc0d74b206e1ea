/** Bars of a row; strip (in the summary bar) and minimap (above a big tree) of all leaf spans. */

/** @import { LanedSpan, Row, Span, Trace } from "./types.js" */

import { duration, h, KIND_COLORS, kindOf } from "./dom.js";
import { foldFacts, lanes, merged } from "./rows.js";

/** Size in CSS pixels; canvases have twice the size for high-resolution screens. */
/** @type {[number, number]} */
const SPARK = [110, 18];
/** @type {[number, number]} */
const MINIMAP = [560, 44];

/**
 * The waterfall cell of a row. Hidden from assistive technology: the row's label has the same information.
 * @param {{end: number}} trace
 * @param {Row} row
 * @param {boolean} critical whether the critical path is underlined
 */
export function waterfall(trace, row, critical) {
  const total = trace.end || 1;
  const { span } = row;
  /** @type {Box} */
  const box = (name, start, end) => h("span", {
    class: `${name} hh-c-${kindOf(span.kind).color}`,
    style: { left: `${(start / total) * 100}%`, width: `${((end - start) / total) * 100}%` },
  });
  const cell = h("div", { class: "hh-fall", "aria-hidden": "true" });
  if (row.items) {
    const facts = foldFacts(row.items);
    const strip = merged(row.items.map((item) => [item.start, item.end]), total / 400);
    cell.append(...strip.map(([start, end]) => box("hh-strip", start, end)));
    cell.append(label(facts.start / total, facts.end / total, `p50 ${duration(facts.p50)}`));
    return cell;
  }
  cell.append(...spanBars(span, box));
  if (critical) cell.append(...span.critical.map(([start, end]) => box("hh-critical", start, end)));
  cell.append(label(span.start / total, span.end / total, span.running ? "running" : duration(span.end - span.start)));
  return cell;
}

/**
 * A pale bar over the whole span if it waited (for children or the first token), solid ones over its own work.
 * @typedef {(name: string, start: number, end: number) => HTMLElement} Box
 * @param {Span} span
 * @param {Box} box
 */
function spanBars(span, box) {
  const waits = span.children.length > 0 || span.first !== null;
  const mark = span.error === "uncaught" ? " hh-failed" : span.error === "propagated" && span.errors ? " hh-passed" : "";
  const bars = [box(`hh-strip${waits ? " hh-pale" : ""}${mark}`, span.start, span.end)];
  if (span.children.length) bars.push(...span.own.map(([start, end]) => box("hh-strip", start, end)));
  else if (span.first !== null) {
    const first = Math.min(span.start + span.first, span.end);
    bars.push(box("hh-strip", first, span.end), box("hh-first", first, first));
  }
  if (span.running) bars[0].classList.add("hh-running");
  return bars;
}

/**
 * The duration next to its bar, on the side with room; on the bar if it fills the row.
 * @param {number} start
 * @param {number} end
 * @param {string} text
 */
function label(start, end, text) {
  const element = h("span", { class: "hh-time" }, text);
  if (end < 0.78) element.style.left = `${end * 100}%`;
  else if (start > 0.3) element.style.right = `${(1 - start) * 100}%`;
  else element.classList.add("hh-inside");
  return element;
}

/** @type {(name: string, size: [number, number], more: Record<string, any>) => HTMLCanvasElement} */
const lanesCanvas = (name, [width, height], more) => h("canvas", { class: name, "aria-hidden": "true", width: width * 2, height: height * 2, ...more });

/** A canvas of all leaf spans in lanes, errors in red. `paintLanes` paints it, again after a change of the theme. */
export const sparkCanvas = () => lanesCanvas("hh-spark", SPARK, {});

/**
 * The same over the whole width. A click jumps to a point in time; keyboard users have the rows.
 * @param {(share: number) => void} jump to this share of the total duration
 */
export const minimapCanvas = (jump) => lanesCanvas("hh-minimap", MINIMAP, {
  title: "All spans over time: click to jump to a point in time", onclick: (/** @type {any} */ event) => jump(event.offsetX / event.target.clientWidth),
});

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Trace} trace
 */
export function paintLanes(canvas, trace) {
  const context = canvas.getContext("2d");
  if (!context) return;
  const style = getComputedStyle(canvas);
  const colors = Object.fromEntries(["error", ...KIND_COLORS].map((name) => [name, style.getPropertyValue(`--hh-${name}`)]));
  const placed = (trace.lanes ??= lanes(trace));
  const used = placed.reduce((most, { lane }) => Math.max(most, lane + 1), 1);
  const step = canvas.height / Math.max(used, 3);
  const top = (canvas.height - used * step) / 2;
  const scale = canvas.width / (trace.end || 1);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const paint = (/** @type {LanedSpan[]} */ items, /** @type {boolean} */ failed) => {
    for (const { span, lane } of items) {
      context.fillStyle = colors[failed ? "error" : kindOf(span.kind).color];
      context.fillRect(span.start * scale, top + lane * step, Math.max(2, (span.end - span.start) * scale), Math.max(1, step * 0.82));
      if (failed) context.fillRect(Math.max(0, span.start * scale - 1), 0, 3, canvas.height);
    }
  };
  const failed = (/** @type {LanedSpan} */ { span }) => !["", "cancelled"].includes(span.error);
  paint(placed.filter((item) => !failed(item)), false);
  // Errors last and over the full height: one failed span of ten thousand must be visible.
  paint(placed.filter(failed), true);
}
