/** The trace: decodes the columns of a view to spans, and computes which rows show them. Needs no page. */

import { kindOf } from "./dom.js";

/** @type {Record<string, any>} */
const ARRAYS = { f8: Float64Array, f4: Float32Array, u8: BigUint64Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array };
const UNKNOWN = 0xffffffff;
/** @type {Span["error"][]} */
const ERRORS = ["", "uncaught", "caught", "propagated", "cancelled"];
const FOLD_FROM = 4;
/** The key of a fold is that of its first span, after this. */
const FOLD_PREFIX = "fold-";

/** @import { Columns, Filter, Interval, LanedSpan, Row, Span, State, Trace } from "./types.js" */

/**
 * Read the columns of one view.
 * @param {Columns} header
 * @param {DataView[]} buffers one per column, in the header's order
 * @returns {Trace}
 */
export function decode(header, buffers) {
  /** @type {Record<string, any>} */
  const column = {};
  header.columns.forEach(([name, type], i) => {
    const { buffer, byteOffset, byteLength } = buffers[i];
    // Copy: buffers of a message may start at any byte, typed arrays only at multiples of their item size.
    column[name] = new ARRAYS[type](buffer.slice(byteOffset, byteOffset + byteLength));
  });
  /** @type {Span[]} */
  const spans = Array.from(column.start, (start, i) => ({
    order: i, id: column.id[i].toString(16).padStart(16, "0"), name: header.names[column.name[i]], kind: header.kinds[column.kind[i]],
    model: header.models[column.model[i]], start, end: start + column.duration[i], depth: column.depth[i],
    tokens: column.tokens[i] === UNKNOWN ? null : column.tokens[i], first: column.first[i] >= 0 ? column.first[i] : null,
    error: ERRORS[(column.state[i] & 3) | ((column.state[i] & 32) >> 3)], passed: Boolean(column.state[i] & 64), repeats: Boolean(column.state[i] & 128),
    running: Boolean(column.state[i] & 4), rated: header.rated?.[i] ?? "", mark: header.marks[i] ?? null, tag: header.tags[i] ?? "", replayed: header.replays[i] ?? "",
    parent: null, children: [], below: 0, errors: 0, caught: 0, cancelled: 0, own: [], critical: [],
  }));
  for (const name of /** @type {const} */ (["own", "critical"])) {
    column[`${name}_span`].forEach((/** @type {number} */ i, /** @type {number} */ n) => spans[i][name].push([column[`${name}_start`][n], column[`${name}_end`][n]]));
  }
  spans.forEach((span, i) => {
    if (column.state[i] & 8) span.critical.push([span.start, span.end]);
    else if (column.state[i] & 16) span.critical = span.own;
  });
  return link(spans);
}

/**
 * Derive parents from depths: the spans are in depth-first order.
 * @param {Span[]} spans
 * @returns {Trace}
 */
export function link(spans) {
  /** @type {Span[]} */
  const path = [];
  for (const span of spans) {
    span.parent = span.depth ? path[span.depth - 1] : null;
    span.parent?.children.push(span);
    path[span.depth] = span;
  }
  for (const span of [...spans].reverse()) {
    span.errors += span.error === "uncaught" ? 1 : 0;
    span.caught += span.error === "caught" ? 1 : 0;
    span.cancelled += span.error === "cancelled" ? 1 : 0;
    if (span.parent) {
      span.parent.errors += span.errors;
      span.parent.caught += span.caught;
      span.parent.cancelled += span.cancelled;
      span.parent.below += span.below + 1;
    }
  }
  const end = spans.reduce((last, span) => Math.max(last, span.end), 0);
  return { spans, roots: spans.filter((span) => !span.parent), byId: new Map(spans.map((span) => [span.id, span])), end };
}

/**
 * Extend running spans between two messages of the kernel.
 * @param {Pick<Trace, "spans" | "end">} trace
 * @param {number} now milliseconds after the trace's start
 */
export function grow(trace, now) {
  trace.end = Math.max(trace.end, now);
  for (const span of trace.spans) if (span.running) span.end = Math.max(span.start, trace.end);
}

/**
 * Whether the spans below a model call only repeat it, so that one row is enough.
 * @param {Span} span
 * @returns {boolean}
 */
const showsCallAlone = (span) => span.children.length > 0 && span.children.every((child) => child.repeats && !child.errors && !child.caught
  && (!child.children.length || showsCallAlone(child)));

/**
 * Whether a span is open. Calls that other tracers describe too are closed. Small traces are fully open; big ones at roots, spans with few children and spans with errors.
 * @param {Pick<Trace, "spans">} trace
 * @param {Filter} state
 * @param {Span} span
 */
export function isOpen(trace, state, span) {
  return state.toggled.get(span.id) ?? (!showsCallAlone(span) && (trace.spans.length <= 300 || !span.parent || span.children.length < 60 || span.errors > 0));
}

/**
 * Whether a span passes the search and the Errors switch.
 * @param {Span} span
 * @param {Filter} state
 */
function matches(span, state) {
  if (state.onlyErrors && ["", "cancelled"].includes(span.error)) return false;
  if (!state.query || state.all || state.hits?.has(span.id)) return true;
  const text = `${span.name} ${span.model} ${kindOf(span.kind).word}`.toLowerCase();
  return text.includes(state.query.toLowerCase());
}

/**
 * The spans that match and their ancestors; null without a filter.
 * @param {Pick<Trace, "spans">} trace
 * @param {Filter} state
 */
function matching(trace, state) {
  if ((!state.query || state.all) && !state.onlyErrors) return null;
  /** @type {Set<Span>} */
  const keep = new Set();
  for (const span of trace.spans) {
    if (matches(span, state)) for (let s = /** @type {Span | null} */ (span); s && !keep.has(s); s = s.parent) keep.add(s);
  }
  return keep;
}

/**
 * Count the repeated siblings from `start` on: same name and kind, ended, no error or cancellation in or below them.
 * @param {Span[]} siblings
 * @param {number} start
 */
function repeats(siblings, start) {
  const first = siblings[start];
  let end = start;
  while (end < siblings.length && siblings[end].name === first.name && siblings[end].kind === first.kind
    && !siblings[end].errors && !siblings[end].caught && !siblings[end].cancelled && !siblings[end].running) end += 1;
  return end - start;
}

/**
 * Return the rows to show, top to bottom.
 * @param {Pick<Trace, "spans" | "roots">} trace
 * @param {Filter} state
 * @returns {Row[]}
 */
export function visibleRows(trace, state) {
  const keep = matching(trace, state);
  /** @type {Row[]} */
  const rows = [];
  const walk = (/** @type {Span[]} */ all, /** @type {number} */ depth) => {
    const siblings = keep ? all.filter((span) => keep.has(span)) : all;
    const size = siblings.length;
    for (let i = 0; i < size; i += 1) {
      const span = siblings[i];
      const times = keep ? 0 : repeats(siblings, i);
      if (times >= FOLD_FROM) {
        const key = FOLD_PREFIX + span.id;
        const expanded = state.toggled.get(key) ?? false;
        const items = siblings.slice(i, i + times);
        rows.push({ key, span, items, depth, position: i + 1, size, expanded });
        if (expanded) items.forEach((item, n) => add(item, depth + 1, n + 1, times));
        i += times - 1;
      } else add(span, depth, i + 1, size);
    }
  };
  /** @type {(span: Span, depth: number, position: number, size: number) => void} */
  const add = (span, depth, position, size) => {
    const expanded = span.children.length ? Boolean(keep) || isOpen(trace, state, span) : null;
    rows.push({ key: span.id, span, items: null, depth, position, size, expanded });
    if (expanded) walk(span.children, depth + 1);
  };
  walk(trace.roots, 0);
  return rows;
}

/** The selected span; of a fold the first one. @type {(trace: Pick<Trace, "byId">, state: Pick<State, "selected">) => Span | undefined} */
export const selectedSpan = (trace, { selected }) => trace.byId.get(selected?.replace(FOLD_PREFIX, "") ?? "");

/**
 * Return the rows to show, and open those that hide the selected one. If the user closed one of them, it is selected instead.
 * @param {Pick<Trace, "spans" | "roots" | "byId">} trace
 * @param {Filter & Pick<State, "selected">} state
 * @returns {Row[]}
 */
export function rowsWithSelected(trace, state) {
  for (;;) {
    const rows = visibleRows(trace, state);
    const span = selectedSpan(trace, state);
    if (!span || rows.some((row) => row.key === state.selected)) return rows;
    /** @type {Set<Span>} */
    const path = new Set();
    for (let above = /** @type {Span | null} */ (span); above; above = above.parent) path.add(above);
    const hiding = rows.reverse().find((row) => row.expanded === false && (row.items ?? [row.span]).some((item) => path.has(item)));
    if (hiding && state.toggled.get(hiding.key) !== false) state.toggled.set(hiding.key, true);
    else if (hiding) state.selected = hiding.key;
    else if (state.selected !== span.id) state.selected = span.id; // Its fold is no longer one.
    else return rows.reverse(); // The filter leaves it out.
  }
}

/** A span as plain data, to copy. */
export const plainRow = (/** @type {Span} */ span) => ({
  name: span.name, kind: span.kind, ...(span.model && { model: span.model }), span_id: span.id, parent_id: span.parent?.id ?? null,
  start_ms: span.start, duration_ms: span.end - span.start, tokens: span.tokens, ...(span.tag && { error: span.tag }),
});

/** The value below which a share of the sorted values lies (nearest rank). */
export const quantile = (/** @type {number[]} */ sorted, /** @type {number} */ share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];

/**
 * Statistics of a fold, for its row and its detail pane.
 * @param {Span[]} items
 */
export function foldFacts(items) {
  const sorted = items.map((span) => span.end - span.start).sort((a, b) => a - b);
  const known = items.map((span) => span.tokens).filter((tokens) => tokens !== null);
  return {
    p50: quantile(sorted, 0.5), p95: quantile(sorted, 0.95), max: sorted[sorted.length - 1],
    sum: sorted.reduce((sum, ms) => sum + ms, 0), tokens: known.length ? known.reduce((sum, n) => sum + n, 0) : null,
    start: items[0].start, end: items.reduce((last, span) => Math.max(last, span.end), 0),
  };
}

/**
 * Merge intervals whose gap is too small to see, so that 10,000 spans need only a few hundred boxes.
 * @param {Interval[]} intervals
 * @param {number} gap
 */
export function merged(intervals, gap) {
  /** @type {Interval[]} */
  const out = [];
  for (const [start, end] of [...intervals].sort((a, b) => a[0] - b[0])) {
    const last = out[out.length - 1];
    if (last && start - last[1] < gap) last[1] = Math.max(last[1], end);
    else out.push([start, end]);
  }
  return out;
}

/**
 * Assign each leaf span to the first lane that is free when it starts, so that parallel spans are stacked.
 * @param {Pick<Trace, "spans">} trace
 * @returns {LanedSpan[]}
 */
export function lanes(trace) {
  /** @type {number[]} */
  const free = [];
  return trace.spans.filter((span) => !span.children.length).sort((a, b) => a.start - b.start).map((span) => {
    const found = free.findIndex((until) => until <= span.start);
    const lane = found < 0 ? free.length : found;
    free[lane] = span.end;
    return { span, lane };
  });
}
