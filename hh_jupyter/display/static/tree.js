/** The spans of a trace: a list of rows with their bars on a time axis, and all of them at once as a strip. */

/** @import { LanedSpan, Row, Span, State, Trace } from "./types.js" */

import { chevron, count, duration, h, KIND_COLORS, kindMark, kindOf, markOf, plural, short, toolIcon } from "./dom.js";
import { List } from "./list.js";
import { marked, patternOf } from "./search.js";
import { foldFacts, lanes, merged, rowsWithSelected } from "./trace.js";

/** From so many spans on, a list needs a minimap. */
const MINIMAP_FROM = 300;
/** From so many spans on, painting them takes longer than a frame: their rows are shown before. */
const ROWS_FIRST_FROM = 3000;
/** Sizes in CSS pixels; canvases have twice the size for high-resolution screens. */
const MINIMAP = { width: 560, height: 44 };
const SPARK = { width: 110, height: 18 };
const BORDER = 1;
const AXIS_HEIGHT = 23;
/** Rows in sight are asked for in one go, after scrolling. */
const PREVIEW_DELAY_MS = 40;
const MAX_PREVIEWS = 5000;
const MAX_REQUESTED = 60;
const RATINGS = { up: "good", down: "bad", note: "note" };
/** @type {Record<string, string>} */
const FAILED = { uncaught: " hh-failed", propagated: " hh-passed" };

/** Minimap, axis and list. */
export class Tree {
  /**
   * @param {string} uid prefix of the rows' DOM ids
   * @param {State} state of the view
   * @param {{select: (row: Row) => void, enter: () => void, refilter: () => void, previews: (spans: string[]) => Promise<Record<string, string> | null>}} on
   *   `refilter`: other rows are to be shown
   */
  constructor(uid, state, on) {
    this.state = state;
    this.on = on;
    /** @type {Map<string, string>} what rows show of the content of their spans, by span */
    this.previews = new Map();
    /** @type {Set<string>} spans in sight whose previews are to be requested */
    this.wanted = new Set();
    /** @type {RegExp | null} what is marked in names and previews */
    this.pattern = null;
    /** @type {Trace} from the first update on */
    this.trace = /** @type {any} */ (undefined);
    /** @type {List<Row>} */
    this.list = new List(uid, state, {
      label: "Spans", empty: "No span matches.", select: on.select, enter: on.enter, refold: () => this.update(this.trace),
      draw: (row, toggle) => ({ label: rowLabel(row, this.hitsOf(row)), cells: this.cells(row, toggle) }),
    });
    this.more = h("button", {
      class: "hh-more hh-others", type: "button", hidden: true, "data-focus": "others", onclick: () => {
        state.all = !state.all;
        on.refilter();
      },
    });
    this.ticks = h("div", { class: "hh-ticks", "aria-hidden": "true" });
    this.minimap = lanesCanvas("hh-minimap", MINIMAP, {
      title: "All spans over time: click to jump to a point in time", // Keyboard users have the rows.
      onclick: (/** @type {MouseEvent} */ event) => this.selectAt(event.offsetX / this.minimap.clientWidth),
    });
    this.element = h("div", { class: "hh-left" }, this.minimap, h("div", { class: "hh-axis" }, h("span", null, "Span"), this.ticks), this.list.element, this.more);
  }

  /** @param {Row} row @param {() => void} toggle */
  cells(row, toggle) {
    const { span, items } = row;
    const preview = items || this.state.wide ? "" : this.preview(span);
    const name = nameCell(row, toggle, { preview, hits: this.hitsOf(row), pattern: this.pattern });
    if (!this.state.wide) return [name, waterfall(this.trace, row, this.state.critical)];
    return [name, h("span", { class: "hh-took" }, span.running ? "running" : duration(items ? foldFacts(items).p50 : span.end - span.start))];
  }

  /** What a row shows of its content; requested for the rows in sight. @param {Span} span */
  preview(span) {
    const known = this.previews.get(span.id);
    if (known !== undefined || span.running) return known ?? "";
    if (!this.wanted.size) setTimeout(() => this.requestPreviews(), PREVIEW_DELAY_MS);
    this.wanted.add(span.id);
    return "";
  }

  async requestPreviews() {
    const spans = [...this.wanted].slice(-MAX_REQUESTED); // The others were scrolled out of sight.
    this.wanted.clear();
    const found = spans.length ? await this.on.previews(spans).catch(() => null) : null;
    if (!found) return;
    if (this.previews.size > MAX_PREVIEWS) this.previews.clear();
    for (const id of spans) this.previews.set(id, found[id] ?? "");
    this.list.paint();
  }

  /** @param {Row} row */
  hitsOf({ span, items }) {
    const { hits } = this.state;
    return hits ? (items ?? [span]).reduce((sum, { id }) => sum + (hits.get(id) ?? 0), 0) : 0;
  }

  /** Show another trace, or the same after a change of state. @param {Trace} trace */
  update(trace) {
    this.trace = trace;
    this.pattern = patternOf(this.state.query);
    this.list.show(rowsWithSelected(trace, this.state));
    this.ticks.replaceChildren(...(this.state.wide ? ["Time"] : [0, 0.25, 0.5, 0.75, 1].map((share) => h("span", {
      class: "hh-tick", style: { left: `${share * 100}%` },
    }, share ? duration(trace.end * share) : "0"))));
    this.drawMore();
    this.minimap.hidden = trace.spans.length <= MINIMAP_FROM;
    this.paintMinimap();
  }

  /** The way to the rows without a hit, and back. */
  drawMore() {
    const { all, query } = this.state;
    const others = this.trace.spans.length - this.list.rows.length;
    this.more.hidden = !this.pattern || !(all || others > 0);
    this.more.textContent = all ? `Show only the spans with “${query.trim()}”` : `Show the ${plural(others, "span")} without a hit`;
  }

  paintMinimap() {
    if (this.trace && !this.minimap.hidden) paintLanes(this.minimap, this.trace);
  }

  /** Height of minimap, axis and list in pixels, for the detail pane beside them. */
  get height() {
    return this.list.height + AXIS_HEIGHT + (this.minimap.hidden ? 0 : MINIMAP.height + BORDER);
  }

  /** Select the innermost row at a point in time; if there is none, the nearest before it. @param {number} share of the total duration */
  selectAt(share) {
    const at = share * this.trace.end;
    const { rows } = this.list;
    const end = (/** @type {Row} */ { span, items }) => (items ? items[items.length - 1].end : span.end);
    let best = 0;
    rows.forEach((row, i) => {
      if (row.span.start <= at && (end(row) >= at || end(row) > end(rows[best]))) best = i;
    });
    this.list.focus();
    this.list.select(best);
  }

  /** Go to the next span where an error began, including caught ones; wraps around. Opens the rows above it. */
  nextError() {
    const { spans, byId } = this.trace;
    const failed = spans.filter((span) => span.error === "uncaught" || span.error === "caught");
    if (!failed.length) return;
    const at = byId.get(this.state.selected ?? "")?.order ?? -1;
    this.goTo(failed.find((span) => span.order > at) ?? failed[0]);
  }

  /** Select a span and open the rows that hide it, also those that the user closed. @param {Span} span */
  goTo(span) {
    for (let above = span.parent; above; above = above.parent) this.state.toggled.delete(above.id);
    this.state.selected = span.id;
    this.update(this.trace);
    this.list.select(this.list.index);
  }
}

/**
 * The label of a row for screen readers: "Tool issue_refund, 653 ms, 1 error".
 * @param {Row} row
 * @param {number} hits of the search
 */
function rowLabel({ span, items }, hits) {
  const found = hits ? `, ${plural(hits, "hit")}` : "";
  if (items) {
    const facts = foldFacts(items);
    return `${kindOf(span.kind).word} ${span.name}, ${count(items.length)} times, median ${duration(facts.p50)}${found}`;
  }
  const parts = [`${kindOf(span.kind).word} ${span.name}`, span.running ? "running" : duration(span.end - span.start)];
  if (span.tokens !== null) parts.push(`${count(span.tokens)} tokens`);
  if (span.replayed) parts.push(span.replayed);
  if (span.tag) parts.push(`${span.error === "cancelled" ? "" : "error: "}${span.tag}`);
  else if (span.errors) parts.push(plural(span.errors, "error"));
  if (span.rated) parts.push(RATINGS[span.rated]);
  return parts.join(", ") + found;
}

/**
 * Guides, twisty, kind, name, preview, model or error, hits, feedback, tokens.
 * @param {Row} row
 * @param {() => void} toggle
 * @param {{preview: string, hits: number, pattern: RegExp | null}} shown
 */
function nameCell(row, toggle, { preview, hits, pattern }) {
  const { span, items } = row;
  const note = items ? "" : span.tag || (span.repeats ? "same call" : "");
  const tokens = items ? foldFacts(items).tokens : span.tokens;
  const failed = items || !span.errors ? "" : FAILED[span.error] ?? "";
  return h("div", { class: "hh-label" },
    Array.from({ length: row.depth }, () => h("span", { class: "hh-guide" })),
    h("span", {
      class: "hh-twisty", onclick: (/** @type {Event} */ event) => {
        event.stopPropagation();
        toggle();
      },
    }, row.expanded === null ? null : chevron()),
    kindMark(span.kind),
    !items && span.mark ? markOf(span.mark) : null,
    h("span", { class: `hh-name${failed}`, title: span.name }, marked(span.name, pattern)),
    items ? h("span", { class: "hh-times" }, `×${count(items.length)}`) : null,
    note ? h("span", { class: span.error ? `hh-note hh-note-${span.error}` : "hh-model" }, note) : null,
    preview ? h("span", { class: "hh-args", title: preview }, marked(preview, pattern)) : null,
    !note && !items && span.model ? h("span", { class: "hh-model", title: span.model }, span.model) : null,
    !items && span.replayed ? h("span", { class: "hh-was" }, span.replayed.split(/(?=, )/).map((part) => h("span", null, part))) : null,
    !items && span.error !== "uncaught" && span.errors ? h("span", { class: "hh-chip hh-chip-error hh-small" }, count(span.errors)) : null,
    hits ? h("span", { class: "hh-hits", title: plural(hits, "hit") }, count(hits)) : null,
    !items && span.rated ? h("span", { class: "hh-rated", title: `Feedback: ${RATINGS[span.rated]}` }, toolIcon(RATINGS[span.rated])) : null,
    tokens ? h("span", { class: "hh-tokens" }, short(tokens)) : null);
}

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
    const name = row.items.every((item) => item.replayed) ? "hh-strip hh-replayed" : "hh-strip";
    cell.append(...strip.map(([start, end]) => box(name, start, end)));
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
  if (span.replayed) bars[0].classList.add("hh-replayed");
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

/** @type {(name: string, size: {width: number, height: number}, more?: Record<string, any>) => HTMLCanvasElement} */
const lanesCanvas = (name, { width, height }, more) => h("canvas", { class: name, "aria-hidden": "true", width: width * 2, height: height * 2, ...more });

/** The small strip of all leaf spans in the summary bar. */
export const sparkCanvas = () => lanesCanvas("hh-spark", SPARK);

/**
 * The hollow box of a call that a recording answered, in the fill's color.
 * @typedef {[number, number, number, number]} Box4
 * @param {CanvasRenderingContext2D} context
 * @param {Box4} place left, top, width, height
 */
function dashedBox(context, [left, top, width, height]) {
  context.strokeStyle = context.fillStyle;
  context.lineWidth = 2;
  context.setLineDash([6, 4]);
  context.strokeRect(left + 1, top + 1, Math.max(1, width - 2), Math.max(1, height - 2));
}

/** What the canvases will show that are not painted yet. @type {WeakMap<HTMLCanvasElement, Trace>} */
const unpainted = new WeakMap();

/**
 * Paint all leaf spans in lanes, errors in red; again after a change of the theme. The rows of a big trace are on the screen before.
 * @param {HTMLCanvasElement} canvas
 * @param {Trace} trace
 */
export function paintLanes(canvas, trace) {
  const waits = unpainted.has(canvas);
  unpainted.set(canvas, trace);
  if (waits) return;
  const paint = () => {
    paintNow(canvas, /** @type {Trace} */ (unpainted.get(canvas)));
    unpainted.delete(canvas);
  };
  requestAnimationFrame(() => (trace.spans.length > ROWS_FIRST_FROM ? setTimeout(paint) : paint()));
}

/** @param {HTMLCanvasElement} canvas @param {Trace} trace */
function paintNow(canvas, trace) {
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
      /** @type {Box4} */
      const place = [span.start * scale, top + lane * step, Math.max(2, (span.end - span.start) * scale), Math.max(1, step * 0.82)];
      if (span.replayed) dashedBox(context, place);
      else context.fillRect(...place);
      if (failed) context.fillRect(Math.max(0, span.start * scale - 1), 0, 3, canvas.height);
    }
  };
  const failed = (/** @type {LanedSpan} */ { span }) => !["", "cancelled"].includes(span.error);
  paint(placed.filter((item) => !failed(item)), false);
  // Errors last and over the full height: one failed span of ten thousand must be visible.
  paint(placed.filter(failed), true);
}
