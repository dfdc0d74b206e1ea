/**
 * A report: the result of a run, or the comparison of two. Summary bar, boxes or a table of metrics, and any number of rows that
 * are sorted, filtered and searched in the kernel; only those in sight are requested, and a row opens to everything about it.
 */

/** @import { Kernel } from "./kernel.js" */
/** @import { Cell, Child, Column, Difference, Distribution, Feedback, Header, Report, RowDetails, RowSpans, Section, State, TableRow, Toned } from "./types.js" */

import { feedbackTools, withFeedback } from "./detail.js";
import { chevron, count, focusOn, h, NO_ANSWER, plural, redraw } from "./dom.js";
import { List } from "./list.js";
import { summaryBar } from "./summary.js";

const MAX_BOXES = 8;
const MAX_CACHED_ROWS = 2000;
const TYPING_MS = 150;
const LIST_HEIGHT = 520;
/** Bits of the byte that the kernel sends for each row. */
const BAD = 0x80;
/** Heights of rows of 1, 2 and 3 lines, in pixels. */
const HEIGHTS = [26, 26, 43, 65];
const LINE_HEIGHT = 18;
const DIGIT_WIDTH = 7;
/** Columns of a card's first line. */
const CARD_HEADS = ["id", "state"];
const CARDS_BELOW = 600;
/** Cards have the columns of a lower priority number. */
const CARD_PRIORITY = 3;
const GAP = 8;
const EDGE = 40;
const TABLE_KEYS = [["↑↓", "rows"], ["Enter", "open"], ["/", "filter"], ["e", "next failed or wrong"]];

/** Pieces of text with their tones; the spaces around a piece have none. @param {Toned[]} line */
const pieces = (line) => line.map(([text, tone]) => {
  const inner = text.trim();
  return tone && inner ? text.split(inner, 2).flatMap((edge, i) => (i ? [h("span", { class: `hh-tone-${tone}` }, inner), edge] : [edge])) : text;
});

const percent = (/** @type {number} */ share) => `${(100 * share).toFixed(2)}%`;

const isEmpty = (/** @type {Cell} */ cell) => (typeof cell === "string" || Array.isArray(cell)) && !cell.length;

/** @param {Cell} cell @returns {Child} */
function drawn(cell) {
  if (typeof cell === "string") return cell;
  if (Array.isArray(cell)) return pieces(cell);
  return "low" in cell ? interval(cell) : plot(cell, () => {});
}

/** A difference and its interval around zero, each on its own scale: a diamond if zero is outside. @param {Difference} difference */
function interval({ low, value, high }) {
  const reach = Math.max(Math.abs(low), Math.abs(high)) * 1.08 || 1;
  const at = (/** @type {number} */ position) => percent(0.5 + position / reach / 2);
  return h("span", { class: `hh-forest${low > 0 || high < 0 ? " hh-clear" : ""}`, "aria-hidden": "true" },
    h("i", { style: { left: at(low), width: percent((high - low) / reach / 2) } }), h("b", { style: { left: at(value) } }));
}

/**
 * How the values of a metric are distributed, with the mean and its error. A click on a bar filters its rows.
 * @param {Distribution} found
 * @param {(query: string) => void} pick
 */
function plot({ kind, shares, labels, queries, mean, error }, pick) {
  const all = kind === "yes_no" ? [shares[0], 1 - shares[0]] : shares;
  const most = Math.max(...all) || 1;
  const bars = all.map((share, i) => h("i", {
    title: queries[i], onclick: () => queries[i] && pick(queries[i]),
    style: kind === "numbers" ? { height: share ? `${Math.max(10, (100 * share) / most)}%` : "1px" }
      : kind === "labels" ? { backgroundSize: `${percent(share)} 100%` } : { flexGrow: share, display: share ? "" : "none" },
  }, kind === "labels" ? labels[i] : null));
  const whisker = mean === null ? null : h("span", {
    class: "hh-whisker", style: { left: percent(Math.max(0, mean - (error ?? 0))), right: percent(Math.max(0, 1 - mean - (error ?? 0))) },
  });
  return h("div", { class: `hh-plot hh-plot-${kind}`, "aria-hidden": "true" }, whisker, h("div", null, bars));
}

/** A metric: name, mean with its error, distribution, how many rows have it. @param {Map<string, Cell>} cells @param {(query: string) => void} pick */
function box(cells, pick) {
  const text = (/** @type {string} */ key) => drawn(cells.get(key) ?? "");
  const found = /** @type {Distribution | undefined} */ (cells.get("values"));
  const within = cells.get("within");
  return h("div", { class: "hh-metric", role: "group" },
    h("div", { class: "hh-metric-name" }, h("b", null, text("metric")), h("span", null, text("kind"))),
    h("div", { class: "hh-figure" }, text("mean"), h("span", null, text("error")), within ? h("span", null, `within a row ${within}`) : null),
    found ? plot(found, pick) : null,
    h("div", { class: "hh-ends" }, h("span", null, found?.ends[0]), h("span", null, found?.ends[1]), h("span", null, text("scored"), " scored")));
}

/** @param {Section} section @param {(query: string) => void} pick */
function sectionOf({ lines, look, columns = [], rows = [], more = [] }, pick) {
  const boxes = look === "boxes" && rows.length <= MAX_BOXES;
  const cell = (/** @type {Cell} */ one, /** @type {number} */ i) => h(i ? "td" : "th", { scope: i ? null : "row", class: `hh-of-${columns[i].key}${columns[i].right ? " hh-n" : ""}` }, drawn(one));
  return [
    lines.length ? h("div", { class: "hh-sum" }, lines.map((line) => h("p", null, pieces(line)))) : null,
    boxes ? h("div", { class: "hh-metrics" }, rows.map((row) => box(new Map(columns.map(({ key }, i) => [key, row[i]])), pick))) : null,
    rows.length && !boxes ? h("div", { class: "hh-scroll", tabindex: 0, role: "region", "aria-label": "Metrics" }, h("table", { class: "hh-figures" },
      h("thead", null, h("tr", null, columns.map(({ key, title, right }) => h("th", { scope: "col", class: `hh-of-${key}${right ? " hh-n" : ""}` }, title || h("span", { class: "hh-sr" }, "drawn"))))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map(cell)))))) : null,
    more.length ? h("p", { class: "hh-hint" }, pieces(more)) : null,
  ];
}

/** Which columns are shown, and how wide they are: those that the user chose, and as many others as fit. */
class Layout {
  /**
   * @param {Column[]} columns
   * @param {number} width of the view in pixels
   * @param {Map<string, boolean>} chosen shown or hidden by the user
   * @param {Map<string, number>} digits length of the longest number in a column
   */
  constructor(columns, width, chosen, digits) {
    this.cards = width <= CARDS_BELOW;
    const all = columns.map((column, index) => ({ ...column, index, weight: column.weight || (column.right ? 1 : 3), priority: chosen.get(column.key) ? column.priority / 100 : column.priority }));
    /** Columns that the user may show or hide: all but the first one. */
    this.known = columns.filter(({ title }, index) => title && index);
    const shown = all.filter(({ key, title, index }) => title && (!index || (chosen.get(key) ?? columns[index].weight > 0))).sort((one, other) => Number(one.right) - Number(other.right));
    /** Texts that stand in a second line. */
    this.second = all.filter(({ line, title }) => line && !title);
    const least = (/** @type {Column} */ one) => (one.right ? Math.max(52 * one.weight, Math.min(96, 16 + 6.4 * one.title.length), DIGIT_WIDTH * (digits.get(one.key) ?? 0)) : 30 + 12 * one.weight);
    const room = width - EDGE;
    const dropped = (/** @type {Column[]} */ list) => list.reduce((last, one) => (one.priority && one.priority >= last.priority ? one : last), { ...list[0], priority: 0 });
    this.columns = this.cards ? shown.filter(({ priority }) => priority < CARD_PRIORITY) : shown;
    while (!this.cards && this.columns.reduce((sum, one) => sum + least(one) + GAP, 0) > room) {
      const { priority, key } = dropped(this.columns);
      if (!priority) break;
      this.columns = this.columns.filter((one) => one.key !== key);
    }
    this.texts = this.columns.filter(({ key, right }) => !right && !CARD_HEADS.includes(key)).length;
    this.template = `16px ${this.columns.map((one) => (one.right ? `${least(one)}px` : `minmax(${least(one)}px, ${one.weight}fr)`)).join(" ")}`;
  }
}

export class TableView {
  /**
   * @param {string} id of the kernel
   * @param {string} uid unique in the page
   * @param {State} state shared by all views of this id
   * @param {Pick<Kernel, "order" | "cells" | "row" | "feedback" | "addToDataset">} kernel
   * @param {(root: Element) => void} spans shows the spans of the outputs in an element
   */
  constructor(id, uid, state, kernel, spans) {
    this.id = id;
    this.state = state;
    this.kernel = kernel;
    this.spans = spans;
    /** @type {Header & Report} from the first update on */
    this.header = /** @type {any} */ (undefined);
    /** @type {DataView[] | undefined} */
    this.buffers = undefined;
    /** @type {TableRow[]} in the kernel's order */
    this.all = [];
    /** @type {Map<number, Cell[]>} by the number of the row */
    this.cells = new Map();
    /** @type {Map<string, HTMLElement>} what is below open rows */
    this.opened = new Map();
    this.chosen = state.columns ??= new Map();
    /** @type {Map<string, number>} length of the longest number in a column so far */
    this.digits = new Map();
    this.layout = new Layout([], LIST_HEIGHT, this.chosen, this.digits);
    this.width = 0;
    /** Number of the last request for the order of rows: replies to earlier ones are ignored. */
    this.asked = 0;
    this.fetching = false;
    /** @type {string[]} */
    this.notes = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.typing = undefined;
    this.bar = h("div", { class: "hh-bar" });
    this.sections = h("div", { class: "hh-sections" });
    this.filter = h("input", {
      type: "search", class: "hh-filter", placeholder: "Text, or score<0.6", "aria-label": "Filter rows by text, failed, wrong or a condition such as score<0.6",
      value: state.query, oninput: () => {
        clearTimeout(this.typing);
        this.typing = setTimeout(() => this.find(this.filter.value), TYPING_MS);
      },
    });
    this.filters = h("span", { class: "hh-filters" });
    this.shown = h("span", { class: "hh-shown", role: "status" });
    this.menu = h("div", { class: "hh-columns", id: `${uid}-columns`, role: "group", "aria-label": "Columns", hidden: true });
    this.menuButton = h("button", { type: "button", class: "hh-button", "aria-expanded": "false", "aria-controls": this.menu.id, onclick: () => this.toggleMenu() }, "Columns");
    this.tools = h("div", { class: "hh-tools" }, this.filter, this.filters, h("span", { class: "hh-end" }, this.shown, this.menuButton), this.menu);
    this.head = h("div", { class: "hh-thead", role: "row", "aria-rowindex": 1 });
    /** @type {List<TableRow>} */
    this.list = new List(uid, state, {
      label: "Rows", empty: h("span", null, "No row matches. ", h("button", { type: "button", class: "hh-more", onclick: () => this.find("") }, "Show all rows")),
      head: this.head, most: LIST_HEIGHT, height: ({ lines }) => this.height(lines),
      draw: (row) => this.drawRow(row), select: () => {}, enter: () => this.list.selected && this.list.toggle(this.list.selected),
      refold: () => this.fold(),
    });
    this.foot = h("div", { class: "hh-legend" });
    this.body = h("div", { class: "hh-body", id: `${uid}-body` }, this.sections, this.tools, this.list.element, this.foot);
    this.element = h("div", { class: "hh-view hh-report", role: "region", onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event) }, this.bar, this.body);
    new ResizeObserver(() => this.resized()).observe(this.element);
  }

  /** Show new data of the kernel. @param {Header} header @param {DataView[]} buffers the same object as before if the rows have not changed */
  update(header, buffers) {
    this.header = /** @type {Header & Report} */ (header);
    if (buffers !== this.buffers) {
      this.buffers = buffers;
      const bytes = buffers[0] ? new Uint8Array(buffers[0].buffer, buffers[0].byteOffset, buffers[0].byteLength) : [];
      this.all = Array.from(bytes, (byte, number) => ({
        key: String(number), number, lines: byte & ~BAD, bad: byte >= BAD, depth: 0, position: number + 1, size: bytes.length, expanded: false,
      }));
      this.cells.clear();
      this.opened.clear();
      this.sections.replaceChildren(...this.header.sections.map((one) => sectionOf(one, (query) => this.find(this.state.query === query ? "" : query))).flat().filter((one) => one !== null));
      this.drawFoot();
      this.resized(true);
      this.list.rows = this.all;
      this.order();
    }
    this.element.setAttribute("aria-label", `Run ${header.title}, ${plural(this.all.length, "row")}`);
    this.draw();
  }

  /** Move into another place of the page, with scroll position and focus. @param {Element} place */
  moveTo(place) {
    const focus = this.element.contains(document.activeElement) ? document.activeElement : null;
    const { scrollTop } = this.list.element;
    place.append(this.element);
    this.list.element.scrollTop = scrollTop;
    focusOn(focus, true);
  }

  /** Take the view out of the page. */
  remove() {
    this.element.remove();
  }

  /** @param {boolean} dark */
  setTheme(dark) {
    this.element.dataset.theme = dark ? "dark" : "light";
  }

  get open() {
    return this.state.open ?? this.header.open;
  }

  draw() {
    const { header, open } = this;
    const facts = open ? header.facts : [...header.headline, ...header.facts];
    redraw(this.bar, ...summaryBar({ ...header, facts }, {
      open, body: this.body.id, spark: false, diff: false, sign: "", compare: () => {}, jump: () => this.next(), toggle: () => {
        this.state.open = !this.open;
        this.draw();
        this.list.show(this.list.rows);
      },
    }));
    this.body.hidden = !open;
  }

  /** The view has another width: other columns fit. */
  resized(anew = false) {
    const width = this.element.clientWidth || this.width || LIST_HEIGHT;
    if (!this.header || (width === this.width && !anew)) return;
    this.width = width;
    this.layout = new Layout(this.header.columns, width, this.chosen, this.digits);
    this.element.classList.toggle("hh-cards", this.layout.cards);
    this.list.element.style.setProperty("--hh-cols", this.layout.template);
    this.drawHead();
    this.drawMenu();
    this.list.show(this.list.rows);
  }

  /** Height of a row in pixels. A card has the line of its head, and its texts below each other. @param {number} lines of text */
  height(lines) {
    const { cards, texts } = this.layout;
    return cards ? 12 + LINE_HEIGHT * (1 + texts * (lines === 3 ? 2 : 1)) + (lines === 2 ? LINE_HEIGHT - 1 : 0) : HEIGHTS[lines];
  }

  /** Show or hide the columns to choose from. They are not over the table: the notebook clips what is larger than its output. */
  toggleMenu() {
    this.menu.hidden = !this.menu.hidden;
    this.menuButton.setAttribute("aria-expanded", String(!this.menu.hidden));
    this.drawMenu();
  }

  /** A check box for each column. One that was chosen, but does not fit, says so. */
  drawMenu() {
    if (this.menu.hidden) return;
    redraw(this.menu, ...this.layout.known.map(({ key, title }, i) => {
      const shown = this.layout.columns.some((one) => one.key === key);
      const chosen = this.chosen.get(key) === true;
      return h("label", null, h("input", {
        type: "checkbox", checked: shown || chosen, "data-focus": `column-${i}`, onchange: (/** @type {any} */ { currentTarget }) => this.choose(key, currentTarget.checked),
      }), title, chosen && !shown ? h("span", { class: "hh-hint" }, " needs a wider view") : null);
    }));
  }

  /** Show or hide a column. @param {string} key @param {boolean} shown */
  choose(key, shown) {
    this.chosen.set(key, shown);
    if (!shown && this.state.sort?.key === key) {
      this.state.sort = null; // Nothing would say by what the rows are sorted.
      this.order();
    }
    this.resized(true);
  }

  drawHead() {
    const { sort } = this.state;
    redraw(this.head, h("span", { role: "columnheader" }, h("span", { class: "hh-sr" }, "open")), ...this.layout.columns.map(({ key, title, right }) => h("span", {
      role: "columnheader", class: right ? "hh-n" : "", "aria-sort": sort?.key === key ? (sort.down ? "descending" : "ascending") : null,
    }, h("button", { type: "button", title: `Sort by ${title}`, "data-focus": `sort-${key.replace(/\W/g, "-")}`, onclick: () => this.sort(key) }, h("span", null, title), sort?.key === key ? (sort.down ? " ↓" : " ↑") : null))));
  }

  drawFoot() {
    this.foot.replaceChildren(...this.header.foot.map((line) => h("span", { class: "hh-item" }, h("span", null, pieces(line)))), h("span", { class: "hh-space" }),
      ...TABLE_KEYS.map(([key, action]) => h("span", { class: "hh-item hh-wide" }, h("kbd", null, key), action)));
  }

  /** The buttons of the filters, which write into the query. */
  drawFilters() {
    const words = this.state.query.split(/\s+/);
    redraw(this.filters, ...this.header.filters.filter(([, rows]) => rows).map(([name, rows]) => h("button", {
      type: "button", class: "hh-button", "data-focus": `filter-${name}`, "aria-pressed": String(words.includes(name)),
      onclick: () => this.find([...words.filter((word) => word && !this.header.filters.some(([other]) => word === other)), ...(words.includes(name) ? [] : [name])].join(" ")),
    }, `${name[0].toUpperCase()}${name.slice(1).replace("-", " ")} ${count(rows)}`)));
  }

  // Sorting and filtering, in the kernel.

  /** Sort by a column: up, down, then as before. @param {string} key */
  sort(key) {
    const { sort } = this.state;
    this.state.sort = sort?.key !== key ? { key, down: false } : sort.down ? null : { key, down: true };
    this.drawHead();
    this.order();
  }

  /** @param {string} query */
  find(query) {
    clearTimeout(this.typing);
    if (this.filter.value !== query) this.filter.value = query;
    this.state.query = query;
    this.order();
  }

  /** Show the rows that match the query in their order. */
  async order() {
    const { query, sort } = this.state;
    this.asked += 1;
    const { asked } = this;
    this.drawFilters();
    this.notes = [];
    let rows = this.all;
    if (query.trim() || sort) {
      const found = await this.kernel.order(this.id, query, sort?.key ?? "", sort?.down ?? false).catch(() => null);
      if (asked !== this.asked) return;
      if (found) rows = Array.from(found.numbers, (number) => this.all[number]).filter(Boolean);
      this.notes = found ? found.notes : ["the kernel does not respond"];
    }
    const all = plural(this.all.length, "row");
    this.shown.textContent = [rows.length === this.all.length ? all : `${count(rows.length)} of ${all}`, ...this.notes].join(", ");
    if (rows !== this.list.rows) this.list.element.scrollTop = 0;
    this.list.show(rows);
    this.fetchRows();
  }

  // Rows.

  fold() {
    for (const [key, open] of this.state.toggled) if (this.all[Number(key)]) this.all[Number(key)].expanded = open;
    this.list.show(this.list.rows);
  }

  /** Request the cells of the rows in sight, one request at a time. */
  async fetchRows() {
    const missing = this.list.painted.filter(({ number }) => !this.cells.has(number)).map(({ number }) => number);
    if (this.fetching || !missing.length) return;
    this.fetching = true;
    const { buffers } = this;
    const found = await this.kernel.cells(this.id, missing).catch(() => null);
    this.fetching = false;
    if (buffers !== this.buffers) this.fetchRows(); // Of rows that are no longer shown.
    if (!found || buffers !== this.buffers) return;
    found.forEach((cells, i) => this.cells.set(missing[i], cells));
    for (const number of this.cells.keys()) {
      if (this.cells.size <= MAX_CACHED_ROWS) break;
      this.cells.delete(number);
    }
    if (this.hasLonger(found)) this.resized(true);
    else this.list.paint();
  }

  /** Whether these rows have a longer number than those before: none may be cut. @param {Cell[][]} rows */
  hasLonger(rows) {
    let longer = false;
    /** @type {Column[]} */ (this.header.columns).forEach(({ key, right }, i) => {
      if (!right) return;
      for (const { [i]: cell } of rows) {
        const text = Array.isArray(cell) ? cell.filter(([, tone]) => tone !== "below").map(([one]) => one).join("") : cell;
        if (typeof text !== "string" || !/\d/.test(text) || text.length <= (this.digits.get(key) ?? 0)) continue;
        this.digits.set(key, text.length);
        longer = true;
      }
    });
    return longer;
  }

  /** @param {TableRow} row */
  drawRow(row) {
    const cells = this.cells.get(row.number);
    if (!cells) queueMicrotask(() => this.fetchRows());
    const below = row.expanded ? this.below(row) : undefined;
    const twisty = h("span", { class: "hh-twisty", role: "gridcell" }, chevron());
    if (!cells) return { label: `row ${row.number + 1}`, cells: [twisty, h("span", { class: "hh-hint", role: "gridcell" }, "…")], below };
    const cell = (/** @type {Column & {index: number}} */ { key, index, right, title }) => {
      const empty = right && isEmpty(cells[index]);
      return empty && this.layout.cards ? null : h("span", { class: `hh-td${right ? " hh-n" : ""}${row.lines === 3 ? " hh-lines3" : ""}`, role: "gridcell", "data-key": key, "data-name": right ? title : null }, empty ? "–" : drawn(cells[index]));
    };
    const [texts, numbers] = [false, true].map((right) => this.layout.columns.filter((one) => one.right === right).map(cell));
    const second = this.layout.second.flatMap(({ index }) => (isEmpty(cells[index]) ? [] : [h("span", null, drawn(cells[index]))]));
    const first = cells[0];
    const label = Array.isArray(first) ? /** @type {Toned[]} */ (first).slice(1).map(([text]) => text).join("").trim() : String(first);
    const state = Array.isArray(first) ? /** @type {Toned[]} */ (first)[0]?.[1] : "";
    return {
      label: state ? `${label}, ${state}` : label, below,
      cells: [twisty, ...texts, h("span", { class: "hh-cells", role: "presentation" }, numbers), second.length ? h("span", { class: "hh-why", role: "gridcell" }, second) : null],
    };
  }

  /** What is below an open row; the same element as long as it is open. @param {TableRow} row */
  below(row) {
    for (const key of this.opened.keys()) if (!this.all[Number(key)].expanded) this.opened.delete(key);
    const known = this.opened.get(row.key);
    if (known) return known;
    const place = h("div", { class: "hh-opened", role: "row" }, h("div", { role: "gridcell" }, h("p", { class: "hh-hint", role: "status" }, "Loading from the kernel…")));
    this.opened.set(row.key, place);
    this.kernel.row(this.id, row.number).catch(() => null).then((found) => {
      place.replaceChildren(found ? rowDetails(found, (one) => this.acts(one)) : h("div", { role: "gridcell" }, h("p", { class: "hh-hint", role: "status" }, "The kernel does not respond. Close and open the row to ask again.")));
      if (found) this.spans(place);
      else this.opened.delete(row.key);
    });
    return place;
  }

  /** What is above the spans of a row in a run: thumbs and a note, and to add the row to a dataset. @param {RowSpans} row */
  acts({ view, span, feedback, label }) {
    const caption = h("span", { class: "hh-caption" }, label ? `Spans of the ${label}` : "Spans");
    const place = h("div", { class: "hh-acts", role: "group", "aria-label": label || "Row" }, caption);
    if (!span) return place;
    const answer = h("div", { class: "hh-hint hh-added", role: "status" });
    const field = h("input", {
      class: "hh-filter", "aria-label": "File of the dataset", title: "In the kernel's working directory. Rows are appended.", value: this.state.dataset ?? "dataset.jsonl", maxlength: 255,
      onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && add(),
    });
    const add = async () => {
      this.state.dataset = field.value;
      answer.textContent = await this.kernel.addToDataset(view, field.value).catch(() => NO_ANSWER);
    };
    const file = h("span", { class: "hh-add" }, field, h("button", { class: "hh-button", type: "button", onclick: add }, "Add to a dataset"));
    const draw = (/** @type {Record<string, any>} */ given) => {
      const [thumbs, note] = feedbackTools(given, async (more) => {
        const problem = await this.kernel.feedback(view, span, more).catch(() => NO_ANSWER);
        if (!problem) draw(withFeedback(given, more));
        else if (thumbs.firstElementChild) thumbs.firstElementChild.textContent = problem;
      });
      redraw(place, caption, thumbs, ...(given.note ? [h("span", { class: "hh-hint" }, given.note)] : []), h("span", { class: "hh-space" }), file, note, answer);
    };
    draw(feedback);
    return place;
  }

  /** Press a thumb of the selected row, if it is open. @param {"good" | "bad"} name */
  rate(name) {
    const { selected } = this.list;
    const thumb = selected && this.opened.get(selected.key)?.querySelector(`.hh-acts [data-focus=${name}]`);
    /** @type {HTMLElement | null | undefined} */ (thumb)?.click();
  }

  /** Go to the next row that failed or is wrong; wraps around. */
  next() {
    if (!this.open) {
      this.state.open = true;
      this.draw();
      this.list.show(this.list.rows);
    }
    const { rows, index } = this.list;
    const after = rows.findIndex(({ bad }, i) => bad && i > index);
    const found = after >= 0 ? after : rows.findIndex(({ bad }) => bad);
    if (found < 0) return;
    this.list.focus();
    this.list.select(found);
  }

  /** Handle the keys of the view. None may reach the notebook, where `x` cuts the cell. @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey) return;
    event.stopPropagation();
    const target = /** @type {Element} */ (event.target);
    const typing = ["INPUT", "TEXTAREA"].includes(target.tagName);
    if (event.key === "Escape" && this.menu.contains(target)) {
      this.toggleMenu();
      this.menuButton.focus();
      return;
    }
    if (event.key === "Escape" || (event.key === "ArrowDown" && target === this.filter)) {
      this.list.focus();
      return;
    }
    /** @type {Record<string, () => void>} */
    const actions = { "/": () => this.filter.focus(), e: () => this.next(), "+": () => this.rate("good"), "-": () => this.rate("bad") };
    const action = actions[event.key];
    if (!action || typing || !this.open || event.altKey) return;
    event.preventDefault();
    action();
  }
}

/** Everything about a row: texts, metrics, spans, and what can be done with it. @param {RowDetails} details @param {(row: RowSpans) => HTMLElement} acts */
function rowDetails({ texts, beside, values, spans }, acts) {
  const block = (/** @type {[string, Toned[]]} */ [title, line]) => h("div", { class: "hh-block" }, h("div", { class: "hh-caption" }, title), h("div", { class: "hh-text" }, pieces(line)));
  return h("div", { role: "gridcell" }, h("div", { class: "hh-row-details" },
    h("div", null, texts.map(block), beside.length ? h("div", { class: "hh-sides" }, beside.map(block)) : null),
    values.length ? h("div", null, h("div", { class: "hh-caption" }, "Metrics"), h("table", { class: "hh-figures" }, h("tbody", null, values.map(([name, value, text]) => h("tr", null,
      h("th", { scope: "row" }, name), h("td", null, value.length ? pieces(value) : "–"), h("td", null, h("div", { class: "hh-text" }, pieces(text)))))))) : null),
  spans.map((one) => h("div", { class: "hh-row-spans" }, acts(one),
    h("div", { class: "hh-output", id: one.view }, h("code", null, one.command)))));
}
