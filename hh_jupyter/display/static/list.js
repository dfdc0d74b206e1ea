/**
 * A virtual list of rows: only those in sight are in the page. It owns scrolling, keyboard, selection and folding. Its owner
 * computes the rows and draws what is in one. Heights of rows are known before they are drawn; what an open row shows below
 * itself is measured when it is drawn.
 */

/** @import { Child, ListRow, ListState } from "./types.js" */

import { h } from "./dom.js";

export const ROW_HEIGHT = 26;
const ROWS_SHOWN = 14;
const OVERSCAN_ROWS = 6;
export const MAX_HEIGHT = ROWS_SHOWN * ROW_HEIGHT;

/** @template {ListRow} Row */
export class List {
  /**
   * @param {string} uid prefix of the rows' DOM ids
   * @param {ListState} state which row is selected, and which ones the user folded or unfolded
   * @param {{label: string, empty: Child, draw: (row: Row, toggle: () => void) => {label: string, cells: Child[], below?: Element},
   *   select: (row: Row) => void, refold: () => void, enter: () => void, head?: HTMLElement, height?: (row: Row) => number, most?: number}} owner
   *   `label` names the list, `empty` is shown without rows; `refold`: compute the rows again and `show` them; `enter`: Enter was
   *   pressed. A list with a `head`, the names of columns, is a grid; `height` of a row in pixels, `most` of the list. `below`: the
   *   same element each time, for an open row
   */
  constructor(uid, state, owner) {
    this.uid = uid;
    this.state = state;
    this.owner = owner;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {Float64Array} the top of each row, and the end of the last one */
    this.tops = new Float64Array(1);
    /** @type {Map<string, number>} heights of what is below open rows, by key, once they are known */
    this.below = new Map();
    this.observer = new ResizeObserver((entries) => this.resized(entries));
    /** @type {WeakSet<Element>} */
    this.observed = new WeakSet();
    /** @type {[number, number] | null} the rows in the page, from the first to before the last: those in sight and a few around them */
    this.range = null;
    this.grid = Boolean(owner.head);
    this.pad = h("div", { class: "hh-pad", role: this.grid ? "rowgroup" : "presentation" });
    this.element = h("div", {
      class: "hh-list", role: this.grid ? "treegrid" : "tree", tabindex: 0, "aria-label": owner.label,
      onscroll: () => this.scrolled(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
    }, owner.head, this.pad);
  }

  /**
   * Show other rows, or the same ones after a change of what they draw. A new list begins at the selected row: to ask a list
   * where it is scrolled to makes the browser lay out the page.
   * @param {Row[]} rows
   */
  show(rows) {
    const isNew = !this.range;
    this.rows = rows;
    this.layout();
    this.paint(isNew ? this.topFor(this.index, 0, this.height) : undefined);
    if (isNew) requestAnimationFrame(() => this.reveal());
  }

  /** Compute where the rows are. */
  layout() {
    const { rows, owner, below } = this;
    this.tops = new Float64Array(rows.length + 1);
    for (let i = 0; i < rows.length; i += 1) {
      const open = rows[i].expanded && below.size ? below.get(rows[i].key) ?? 0 : 0;
      this.tops[i + 1] = this.tops[i] + (owner.height?.(rows[i]) ?? ROW_HEIGHT) + open;
    }
    this.pad.style.height = `${this.total}px`;
    this.element.style.height = `${Math.max(this.height, this.headHeight + ROW_HEIGHT)}px`;
    if (this.grid) this.element.setAttribute("aria-rowcount", String(rows.length + 1));
  }

  /** What is below open rows has another height: the rows after it move; those in sight stay where they are. @param {ResizeObserverEntry[]} entries */
  resized(entries) {
    const top = this.element.scrollTop;
    const first = this.indexAt(top);
    const into = top - this.tops[first];
    let changed = false;
    for (const { target } of entries) {
      const { key = "" } = /** @type {HTMLElement} */ (target).dataset;
      const { height } = target.getBoundingClientRect();
      if (!height || this.below.get(key) === height) continue;
      this.below.set(key, height);
      changed = true;
    }
    if (!changed) return;
    this.layout();
    this.element.scrollTop = this.tops[first] + into;
    this.paint();
  }

  get total() {
    return this.tops[this.rows.length];
  }

  /** Index of the row at a position. @param {number} top in pixels */
  indexAt(top) {
    let [low, high] = [0, Math.max(0, this.rows.length - 1)];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.tops[middle] <= top) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** In pixels, of head and rows in sight. */
  get height() {
    return Math.min(this.owner.most ?? MAX_HEIGHT, this.total + this.headHeight);
  }

  get headHeight() {
    return this.owner.head?.offsetHeight ?? 0;
  }

  /** Index of the selected row; -1 if it is not shown. */
  get index() {
    return this.rows.findIndex((row) => row.key === this.state.selected);
  }

  /** The selected row, if it is shown. */
  get selected() {
    return /** @type {Row | undefined} */ (this.rows[this.index]);
  }

  focus() {
    this.element.focus({ preventScroll: true });
  }

  /** The rows in the page. */
  get painted() {
    return this.rows.slice(...(this.range ?? [0, 0]));
  }

  /** @param {number} top where the list is scrolled to @returns {[number, number]} */
  rangeAt(top) {
    const first = Math.max(0, this.indexAt(top) - OVERSCAN_ROWS);
    const last = Math.max(this.indexAt(top + (this.owner.most ?? MAX_HEIGHT)) + OVERSCAN_ROWS, first + ROWS_SHOWN + 2 * OVERSCAN_ROWS) + 1;
    return [first, Math.min(this.rows.length, last)];
  }

  /** Other rows may be in sight. */
  scrolled() {
    if (String(this.rangeAt(this.element.scrollTop)) !== String(this.range)) this.paint();
  }

  /** Render the rows in sight and a few around them. What is below open rows stays as it is: focus and scroll positions are kept. */
  paint(top = this.element.scrollTop) {
    const { element, rows, pad } = this;
    this.range = this.rangeAt(top);
    const [first, last] = this.range;
    const shown = this.painted.flatMap((row, i) => this.row(row, first + i));
    if (!rows.length) shown.push(h("div", { class: "hh-none", role: this.grid ? "row" : "presentation" }, this.grid ? h("span", { role: "gridcell" }, this.owner.empty) : this.owner.empty));
    const wanted = new Set(shown);
    for (const child of [...pad.children]) if (!wanted.has(child)) child.remove();
    let at = pad.firstElementChild;
    for (const one of shown) {
      if (one === at) at = at.nextElementSibling;
      else pad.insertBefore(one, at);
    }
    const selected = this.index;
    if (selected >= first && selected < last) element.setAttribute("aria-activedescendant", `${this.uid}-${selected}`);
    else element.removeAttribute("aria-activedescendant");
  }

  /** @param {Row} row @param {number} index @returns {Element[]} the row, and what is below it */
  row(row, index) {
    const { label, cells, below } = this.owner.draw(row, () => this.toggle(row));
    const height = this.owner.height?.(row) ?? ROW_HEIGHT;
    const line = h("div", {
      class: this.grid ? "hh-row hh-tr" : "hh-row", id: `${this.uid}-${index}`, "aria-expanded": row.expanded === null ? null : String(row.expanded),
      ...(this.grid ? { role: "row", "aria-rowindex": index + 2 }
        : { role: "treeitem", "aria-level": row.depth + 1, "aria-posinset": row.position, "aria-setsize": row.size }),
      "aria-selected": String(row.key === this.state.selected), "aria-label": label,
      style: { top: `${this.tops[index]}px`, height: height === ROW_HEIGHT ? "" : `${height}px` }, onclick: () => this.click(row, index),
      ondblclick: () => this.grid || this.toggle(row),
    }, cells);
    if (!below) return [line];
    const place = /** @type {HTMLElement} */ (below);
    place.dataset.key = row.key;
    place.style.top = `${this.tops[index] + height}px`;
    if (!this.observed.has(place)) this.observer.observe(place);
    this.observed.add(place); // To observe it again would report it again.
    return [line, place];
  }

  /** A click selects a row; in a grid, which has no details beside it, it also opens it. @param {Row} row @param {number} index */
  click(row, index) {
    const marking = String(getSelection());
    this.select(index);
    if (this.grid && !marking) this.toggle(row);
  }

  /** Select a row by its index, the nearest one if there is none, and scroll to it. @param {number} index */
  select(index) {
    const at = Math.max(0, Math.min(this.rows.length - 1, index));
    const row = this.rows[at];
    if (!row) return;
    this.state.selected = row.key;
    this.reveal(at);
    this.paint();
    this.owner.select(row);
  }

  /**
   * Where a list is scrolled to for a row to be in sight.
   * @param {number} index of the row
   * @param {number} top where it is scrolled to now
   * @param {number} height of the list
   */
  topFor(index, top, height) {
    if (index < 0) return top;
    const end = this.tops[index] + (this.owner.height?.(this.rows[index]) ?? ROW_HEIGHT);
    return Math.min(this.tops[index], Math.max(top, end - height + this.headHeight));
  }

  /** Scroll to a row. */
  reveal(index = this.index) {
    const { element } = this;
    const top = this.topFor(index, element.scrollTop, element.clientHeight || (this.owner.most ?? MAX_HEIGHT));
    if (top !== element.scrollTop) element.scrollTop = top;
    this.scrolled();
  }

  /** Fold or unfold a row. A selected row that this hides hands the selection on. @param {Row} row */
  toggle(row) {
    if (row.expanded === null) return;
    const before = this.state.selected;
    this.state.toggled.set(row.key, !row.expanded);
    this.owner.refold();
    if (this.state.selected !== before) this.select(this.index);
  }

  /** Unfold a row and those beside it. @param {number} at index */
  unfoldLevel(at) {
    const { depth } = this.rows[at];
    const parent = this.parentIndex(at);
    for (let i = parent + 1; i < this.rows.length && this.rows[i].depth >= depth; i += 1) {
      if (this.rows[i].depth === depth && this.rows[i].expanded === false) this.state.toggled.set(this.rows[i].key, true);
    }
    this.owner.refold();
  }

  /** Index of a row's parent; -1 of a root. @param {number} at */
  parentIndex(at) {
    let index = at - 1;
    while (index >= 0 && this.rows[index].depth >= this.rows[at].depth) index -= 1;
    return index;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.target !== this.element) return; // It is for what is below an open row.
    const at = this.index;
    const row = this.rows[at];
    /** @type {Record<string, () => void>} */
    const moves = {
      ArrowDown: () => this.select(at + 1), j: () => this.select(at + 1), ArrowUp: () => this.select(at - 1),
      k: () => this.select(at - 1), Home: () => this.select(0), End: () => this.select(this.rows.length - 1),
      PageDown: () => this.select(at + ROWS_SHOWN - 1), PageUp: () => this.select(at - ROWS_SHOWN + 1),
      ArrowRight: () => (row?.expanded === false ? this.toggle(row) : this.select(at + 1)),
      ArrowLeft: () => (row?.expanded ? this.toggle(row) : this.select(this.parentIndex(at))),
      " ": () => row && this.toggle(row), Enter: () => this.owner.enter(), "*": () => row && this.unfoldLevel(at),
    };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    move();
  }
}
