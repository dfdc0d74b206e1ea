/**
 * A virtual list of rows: only those in sight are in the page. It owns scrolling, keyboard, selection and folding. Its owner
 * computes the rows and draws what is in one.
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
   * @param {{label: string, empty: string, draw: (row: Row, toggle: () => void) => {label: string, cells: Child[]},
   *   select: (row: Row) => void, refold: () => void, enter: () => void, most?: number}} owner
   *   `most`: the largest height in pixels; `label` names the list, `empty` is shown without rows; `refold`: compute the rows again and `show` them; `enter`: Enter was pressed
   */
  constructor(uid, state, owner) {
    this.uid = uid;
    this.state = state;
    this.owner = owner;
    /** @type {Row[]} */
    this.rows = [];
    this.pad = h("div", { class: "hh-pad", role: "presentation" });
    this.element = h("div", {
      class: "hh-list", role: "tree", tabindex: 0, "aria-label": owner.label,
      onscroll: () => this.paint(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
    }, this.pad);
  }

  /** Show other rows, or the same ones after a change of what they draw. @param {Row[]} rows */
  show(rows) {
    this.rows = rows;
    this.pad.style.height = `${rows.length * ROW_HEIGHT}px`;
    this.element.style.height = `${Math.max(this.height, ROW_HEIGHT)}px`;
    this.paint();
  }

  /** In pixels, of the rows in sight. */
  get height() {
    return Math.min(this.owner.most ?? MAX_HEIGHT, this.rows.length * ROW_HEIGHT);
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

  /** Render the rows in sight and a few around them. */
  paint() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW_HEIGHT) - OVERSCAN_ROWS);
    const last = Math.min(this.rows.length, first + Math.ceil((this.owner.most ?? MAX_HEIGHT) / ROW_HEIGHT) + 2 * OVERSCAN_ROWS + 1);
    this.pad.replaceChildren(...this.rows.slice(first, last).map((row, i) => this.row(row, first + i)));
    const selected = this.index;
    if (selected >= first && selected < last) this.element.setAttribute("aria-activedescendant", `${this.uid}-${selected}`);
    else this.element.removeAttribute("aria-activedescendant");
    if (!this.rows.length) this.pad.replaceChildren(h("div", { class: "hh-none", role: "presentation" }, this.owner.empty));
  }

  /** @param {Row} row @param {number} index */
  row(row, index) {
    const { label, cells } = this.owner.draw(row, () => this.toggle(row));
    return h("div", {
      class: "hh-row", id: `${this.uid}-${index}`, role: "treeitem", "aria-level": row.depth + 1,
      "aria-posinset": row.position, "aria-setsize": row.size, "aria-expanded": row.expanded === null ? null : String(row.expanded),
      "aria-selected": String(row.key === this.state.selected), "aria-label": label,
      style: { top: `${index * ROW_HEIGHT}px` }, onclick: () => this.select(index), ondblclick: () => this.toggle(row),
    }, cells);
  }

  /** Select a row by its index, the nearest one if there is none, and scroll to it. @param {number} index */
  select(index) {
    const at = Math.max(0, Math.min(this.rows.length - 1, index));
    const row = this.rows[at];
    if (!row) return;
    this.state.selected = row.key;
    this.reveal(at);
    this.owner.select(row);
  }

  /** Scroll to a row. */
  reveal(index = this.index) {
    if (index < 0) return;
    const top = index * ROW_HEIGHT;
    const seen = this.element.clientHeight || (this.owner.most ?? MAX_HEIGHT);
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + ROW_HEIGHT > this.element.scrollTop + seen) this.element.scrollTop = top + ROW_HEIGHT - seen;
    this.paint();
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
