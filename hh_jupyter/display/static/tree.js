/** The tree with its waterfall: virtual rows, one tab stop, keyboard navigation. */

/** @import { Row, Span, State, Trace } from "./types.js" */

import { chevron, count, duration, h, kindMark, kindOf, plural, short } from "./dom.js";
import { foldFacts, rowsWithSelected } from "./rows.js";
import { minimapCanvas, paintLanes, waterfall } from "./waterfall.js";

const ROW_HEIGHT = 26;
const MAX_HEIGHT = 14 * ROW_HEIGHT;
const OVERSCAN_ROWS = 6;
const MINIMAP_FROM = 300;
const MINIMAP_HEIGHT = 45;
/** @type {Record<string, string>} */
const FAILED = { uncaught: " hh-failed", propagated: " hh-passed" };

export class Tree {
  /**
   * @param {string} uid prefix of the rows' DOM ids
   * @param {State} state of the view
   * @param {{select: (row: Row) => void, enter: () => void}} on
   */
  constructor(uid, state, on) {
    this.uid = uid;
    this.state = state;
    this.on = on;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {Trace} from the first update on */
    this.trace = /** @type {any} */ (undefined);
    this.pad = h("div", { class: "hh-pad", role: "presentation" });
    this.list = h("div", {
      class: "hh-list", role: "tree", tabindex: 0, "aria-label": "Spans",
      onscroll: () => this.paint(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
    }, this.pad);
    this.ticks = h("div", { class: "hh-ticks", "aria-hidden": "true" });
    this.minimap = minimapCanvas((share) => this.selectAt(share));
    this.element = h("div", { class: "hh-left" }, this.minimap, h("div", { class: "hh-axis" }, h("span", null, "Span"), this.ticks), this.list);
  }

  /**
   * Show another trace, or the same after a change of state.
   * @param {Trace} trace
   */
  update(trace) {
    this.trace = trace;
    this.rows = rowsWithSelected(trace, this.state);
    const height = this.rows.length * ROW_HEIGHT;
    this.pad.style.height = `${height}px`;
    this.list.style.height = `${Math.min(MAX_HEIGHT, Math.max(height, ROW_HEIGHT))}px`;
    this.ticks.replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((share) => h("span", {
      class: "hh-tick", style: { left: `${share * 100}%` },
    }, share ? duration(trace.end * share) : "0")));
    this.minimap.hidden = trace.spans.length <= MINIMAP_FROM;
    this.paintMinimap();
    this.paint();
  }

  paintMinimap() {
    if (this.trace && !this.minimap.hidden) requestAnimationFrame(() => paintLanes(this.minimap, this.trace));
  }

  /**
   * Select the innermost row at a point in time; if there is none, the nearest before it.
   * @param {number} share of the total duration
   */
  selectAt(share) {
    const at = share * this.trace.end;
    const end = (/** @type {Row} */ { span, items }) => (items ? items[items.length - 1].end : span.end);
    let best = 0;
    this.rows.forEach((row, i) => {
      if (row.span.start <= at && (end(row) >= at || end(row) > end(this.rows[best]))) best = i;
    });
    this.list.focus({ preventScroll: true });
    this.select(best);
  }

  /** Height of minimap, axis and list in pixels, for the detail pane next to them. */
  get height() {
    return Math.min(MAX_HEIGHT, this.rows.length * ROW_HEIGHT) + 23 + (this.minimap.hidden ? 0 : MINIMAP_HEIGHT);
  }

  get index() {
    return this.rows.findIndex((row) => row.key === this.state.selected);
  }

  /** Render the visible rows and a few around them. */
  paint() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW_HEIGHT) - OVERSCAN_ROWS);
    const last = Math.min(this.rows.length, first + MAX_HEIGHT / ROW_HEIGHT + 2 * OVERSCAN_ROWS + 1);
    this.pad.replaceChildren(...this.rows.slice(first, last).map((row, i) => this.row(row, first + i)));
    const selected = this.index;
    if (selected >= first && selected < last) this.list.setAttribute("aria-activedescendant", `${this.uid}-${selected}`);
    else this.list.removeAttribute("aria-activedescendant");
    if (!this.rows.length) this.pad.replaceChildren(h("div", { class: "hh-none", role: "presentation" }, "No span matches."));
  }

  /**
   * @param {Row} row
   * @param {number} index
   */
  row(row, index) {
    return h("div", {
      class: "hh-row", id: `${this.uid}-${index}`, role: "treeitem", "aria-level": row.depth + 1,
      "aria-posinset": row.position, "aria-setsize": row.size, "aria-expanded": row.expanded === null ? null : String(row.expanded),
      "aria-selected": String(row.key === this.state.selected), "aria-label": rowLabel(row),
      style: { top: `${index * ROW_HEIGHT}px` }, onclick: () => this.select(index), ondblclick: () => this.toggle(row),
    }, nameCell(row, () => this.toggle(row)), waterfall(this.trace, row, this.state.critical));
  }

  /**
   * Select a row by its index and scroll to it.
   * @param {number} index
   */
  select(index) {
    const at = Math.max(0, Math.min(this.rows.length - 1, index));
    const row = this.rows[at];
    if (!row) return;
    this.state.selected = row.key;
    this.reveal(at);
    this.on.select(row);
  }

  reveal(index = this.index) {
    if (index < 0) return;
    const top = index * ROW_HEIGHT;
    const seen = this.list.clientHeight || MAX_HEIGHT;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + ROW_HEIGHT > this.list.scrollTop + seen) this.list.scrollTop = top + ROW_HEIGHT - seen;
    this.paint();
  }

  /** @param {Row} row */
  toggle(row, expanded = !row.expanded) {
    if (row.expanded === null || row.expanded === expanded) return;
    this.state.toggled.set(row.key, expanded);
    const before = this.state.selected;
    this.update(this.trace);
    if (this.state.selected !== before) this.select(this.index);
  }

  /** Go to the next span where an error began, including caught ones; wraps around. Opens the rows above it. */
  nextError() {
    const { spans, byId } = this.trace;
    const failed = spans.filter((span) => span.error === "uncaught" || span.error === "caught");
    if (!failed.length) return;
    const at = byId.get(this.state.selected ?? "")?.order ?? -1;
    this.goTo(failed.find((span) => span.order > at) ?? failed[0]);
  }

  /**
   * Select a span and open the rows that hide it, also those that the user closed.
   * @param {Span} span
   */
  goTo(span) {
    for (let above = span.parent; above; above = above.parent) this.state.toggled.delete(above.id);
    this.state.selected = span.id;
    this.update(this.trace);
    this.select(this.index);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const at = this.index;
    const row = this.rows[at];
    /** @type {Record<string, () => void>} */
    const moves = {
      ArrowDown: () => this.select(at + 1), j: () => this.select(at + 1), ArrowUp: () => this.select(at - 1),
      k: () => this.select(at - 1), Home: () => this.select(0), End: () => this.select(this.rows.length - 1),
      PageDown: () => this.select(at + 13), PageUp: () => this.select(at - 13),
      ArrowRight: () => (row?.expanded === false ? this.toggle(row) : this.select(at + 1)),
      ArrowLeft: () => (row?.expanded ? this.toggle(row) : this.select(this.parentIndex(at))),
      " ": () => row && this.toggle(row), Enter: () => this.on.enter(), "*": () => row && this.openLevel(row),
    };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    move();
  }

  /**
   * The index of a row's parent.
   * @param {number} at
   */
  parentIndex(at) {
    let index = at - 1;
    while (index > 0 && this.rows[index].depth >= this.rows[at].depth) index -= 1;
    return index;
  }

  /** @param {Row} row */
  openLevel(row) {
    for (const other of this.rows) {
      if (other.depth === row.depth && other.span.parent === row.span.parent && other.expanded === false) {
        this.state.toggled.set(other.key, true);
      }
    }
    this.update(this.trace);
  }
}

/**
 * The label of a row for screen readers: "Tool issue_refund, 653 ms, 1 error".
 * @param {Row} row
 */
function rowLabel({ span, items }) {
  if (items) {
    const facts = foldFacts(items);
    return `${kindOf(span.kind).word} ${span.name}, ${count(items.length)} times, median ${duration(facts.p50)}`;
  }
  const parts = [`${kindOf(span.kind).word} ${span.name}`, span.running ? "running" : duration(span.end - span.start)];
  if (span.tokens !== null) parts.push(`${count(span.tokens)} tokens`);
  if (span.tag) parts.push(`${span.error === "cancelled" ? "" : "error: "}${span.tag}`);
  else if (span.errors) parts.push(plural(span.errors, "error"));
  return parts.join(", ");
}

/**
 * Guides, twisty, kind, name, model or error, tokens.
 * @param {Row} row
 * @param {() => void} toggle
 */
function nameCell(row, toggle) {
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
    h("span", { class: `hh-name${failed}`, title: span.name }, span.name),
    items ? h("span", { class: "hh-times" }, `×${count(items.length)}`) : null,
    note ? h("span", { class: span.error ? `hh-note hh-note-${span.error}` : "hh-model" }, span.error === "cancelled" ? `⊘ ${note}` : note) : null,
    !note && !items && span.model ? h("span", { class: "hh-model", title: span.model }, span.model) : null,
    !items && span.error !== "uncaught" && span.errors ? h("span", { class: "hh-chip hh-chip-error hh-small" }, count(span.errors)) : null,
    tokens ? h("span", { class: "hh-tokens" }, short(tokens)) : null);
}
