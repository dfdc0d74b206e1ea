/** What changed between two runs of a cell: their aligned tree, and the texts of a span beside it, old and new. */

/** @import { Child, Diff, DiffRow, DiffState, DiffText, Row, SpanDiff, Span } from "./types.js" */

import { chevron, count, duration, focusOn, h, kindMark, kindOf, NO_ANSWER, plural, redraw } from "./dom.js";
import { List } from "./list.js";
import { link, quantile, rowsWithSelected } from "./trace.js";
import { markedText } from "./words.js";

const LOADING_MS = 150;
/** Values of up to so many characters stand in a table. */
const BRIEF = 60;
/** @type {Record<string, string>} */
const MARK_WORDS = { "≠": "changed", "+": "added", "−": "removed", "↕": "moved" };
const DIFF_KEYS = [["n", "next change"], ["N", "change before"], ["s", "changes only"], ["u", "unified"], ["Enter", "to the texts"], ["Esc", "back"], ["d", "to the trace"]];

/** State that survives redraws. */
export const newDiffState = () => /** @type {DiffState} */ ({
  open: null, old: null, new: null, onlyErrors: false, query: "", unified: false, selected: null, toggled: new Map(),
});

/**
 * The rows of both runs as a trace. A change has the place of an error: rows with one open, are no part of a fold, and pass
 * the switch.
 * @param {Diff} diff
 */
function decodeDiff(diff) {
  return link(diff.depth.map((depth, i) => /** @type {DiffRow} */ ({
    order: i, id: `row-${i}`, depth, name: diff.names[diff.name[i]], kind: diff.kinds[diff.kind[i]], model: diff.models[diff.model[i]],
    mark: null, sign: diff.marks[i].trim(), what: diff.what[i] ?? "", old: diff.old_ms[i], now: diff.new_ms[i], tokens: diff.tokens[i],
    error: diff.marks[i] === " " ? "" : "uncaught", parent: null, children: [], below: 0, errors: 0, caught: 0, cancelled: 0,
    start: 0, end: 0, running: false, own: [], critical: [], first: null, passed: false, repeats: false, tag: "", rated: "", replayed: "",
  })));
}

const signed = (/** @type {number} */ value, /** @type {(value: number) => string} */ format) => {
  const text = format(Math.abs(value)).replace(".0 ", " ");
  return /^<|^0\b/.test(text) ? "=" : `${value < 0 ? "−" : "+"}${text}`;
};

/** `2.84 → 2.72 s`, the new value in bold. @param {string} text @param {string} [change] */
const fact = (text, change = "") => {
  const [old, now] = text.split(" → ");
  return h("span", null, now ? [`${old} → `, h("b", null, now)] : old, change ? ` ${change}` : null);
};

/** Times and tokens of a row; of a fold the medians and the sum. @param {Row} row */
function numbers({ span, items }) {
  const all = /** @type {DiffRow[]} */ (items ?? [span]);
  const middle = (/** @type {(number | null)[]} */ list) => (list.includes(null) ? null : quantile(/** @type {number[]} */ (list).sort((a, b) => a - b), 0.5));
  const [old, now] = [middle(all.map((one) => one.old)), middle(all.map((one) => one.now))];
  return { old, now, tokens: all.some((one) => one.tokens === null) ? null : all.reduce((sum, one) => sum + (one.tokens ?? 0), 0) };
}

export class DiffView {
  /**
   * @param {string} uid prefix of DOM ids
   * @param {DiffState} state
   * @param {{fetch: (old: string | null, now: string | null) => Promise<Diff | null>, texts: (diff: string, row: number) => Promise<SpanDiff | null>,
   *   changed: () => void, close: () => void}} on `changed`: other totals; `close`: back to the trace
   */
  constructor(uid, state, on) {
    this.state = state;
    this.on = on;
    /** @type {Diff | null} */
    this.diff = null;
    this.trace = link([]);
    /** @type {Map<string, SpanDiff | null>} */
    this.cache = new Map();
    this.keys = false;
    this.labelled = false;
    /** @type {List<Row>} */
    this.list = new List(`${uid}-diff`, state, {
      label: "Spans of both runs", empty: "Nothing differs but times and ids.", select: (row) => this.showRow(row), enter: () => focusOn(this.right),
      refold: () => this.drawTree(), draw: (row, toggle) => this.drawRow(row, toggle),
    });
    this.right = h("div", { class: "hh-right", tabindex: -1, role: "group", "aria-label": "What differs" });
    this.tools = h("div", { class: "hh-tools" });
    this.more = h("button", { class: "hh-more", type: "button", onclick: () => this.toggleOnly() });
    const column = (/** @type {string} */ text, /** @type {string} */ name) => h("span", { class: name }, text);
    this.main = h("div", { class: "hh-main hh-diff" }, h("div", { class: "hh-left" },
      h("div", { class: "hh-axis", "aria-hidden": "true" }, h("span"), column("Span", ""), column("Time", "hh-n"), column("Change", "hh-n"), column("Tokens", "hh-n hh-n-tokens")),
      this.list.element, this.more), this.right);
    this.legend = h("div", { class: "hh-legend" });
    this.note = h("div", { class: "hh-pane hh-hint", role: "status" });
    this.element = h("div", { class: "hh-diffs", role: "group", "aria-label": "What changed between two runs", tabindex: -1 }, this.note);
    this.list.element.dataset.focus = "rows";
  }

  /** Ask for the difference and show it. What is shown stays until it is there. */
  async load() {
    const { state } = this;
    const asked = [state.old, state.new];
    const late = setTimeout(() => this.say("Comparing the two runs…"), LOADING_MS);
    let diff = /** @type {Diff | null} */ (null);
    let why = "There is no earlier run of this cell to compare with.";
    try {
      diff = await this.on.fetch(state.old, state.new);
    } catch {
      why = NO_ANSWER;
    }
    clearTimeout(late);
    if (asked[0] !== state.old || asked[1] !== state.new) return;
    const same = diff && diff.id === this.diff?.id;
    this.diff = diff;
    if (!diff?.marks) {
      this.say(diff ? "The spans of one of these runs are no longer kept." : why);
    } else if (!same) {
      this.cache.clear();
      this.trace = decodeDiff(diff);
      // A changed span shows what differs, one that was added or removed only what it is.
      const first = this.changes.find(({ sign }) => sign === "≠") ?? this.changes[0] ?? this.trace.spans[0];
      if (!this.trace.byId.has(state.selected ?? "")) state.selected = first.id;
    }
    if (diff?.marks) redraw(this.element, ...diff.notes.map((note) => h("div", { class: "hh-notice" }, note)), this.tools, this.main, this.legend);
    this.on.changed();
    this.draw();
  }

  /** @param {string} text in place of the difference, or above the one that is shown */
  say(text) {
    this.note.textContent = text;
    if (this.diff?.marks) this.element.prepend(this.note);
    else redraw(this.element, this.note, this.diff ? this.tools : "");
  }

  get changes() {
    return /** @type {DiffRow[]} */ (this.trace.spans).filter((row) => row.sign);
  }

  /** Whether the runs differ, for the bar. */
  get sign() {
    return this.diff?.marks ? (this.diff.marks.trim() ? "≠" : "=") : "";
  }

  /** Totals of both runs and counts, for the bar. */
  get facts() {
    return this.diff?.marks ? [...this.diff.facts.map((text) => fact(text)), this.diff.counts] : [];
  }

  draw() {
    this.drawTools();
    if (!this.diff?.marks) return;
    this.drawTree();
    this.drawLegend();
    const row = this.list.selected;
    if (row) this.showRow(row);
    requestAnimationFrame(() => this.list.reveal());
  }

  drawTools() {
    const { diff, state } = this;
    if (!diff) return;
    const names = ["Old", "New"].map((word, side) => {
      const at = side ? diff.new : diff.old;
      if (diff.runs.length < 3) return h("span", { class: "hh-item" }, word, h("b", null, diff.runs[at].name));
      return h("label", { class: "hh-item" }, h("span", { class: "hh-word" }, word), h("select", {
        class: "hh-select", "aria-label": `${word} run`, "data-focus": word, onchange: (/** @type {any} */ { target }) => {
          state[side ? "new" : "old"] = target.value;
          state[side ? "old" : "new"] = diff.runs[side ? diff.old : diff.new].key;
          state.selected = null;
          this.load();
        },
      }, diff.runs.map((run, i) => (i === (side ? diff.old : diff.new) ? null : h("option", { value: run.key, selected: i === at }, run.name)))));
    });
    const { changes } = this;
    const place = changes.findIndex((row) => row.id === state.selected);
    const step = (/** @type {number} */ by, /** @type {string} */ label) => h("button", {
      class: `hh-button hh-step hh-step${by}`, type: "button", title: label, "aria-label": label, "data-focus": `step${by}`, onclick: () => this.go(by),
    }, chevron());
    const layout = (/** @type {string} */ word, /** @type {boolean} */ unified) => h("button", {
      class: "hh-button", type: "button", role: "radio", "aria-checked": String(state.unified === unified), tabindex: state.unified === unified ? 0 : -1,
      "data-focus": `unified${unified}`, title: unified ? "Both texts in one (u)" : null, onclick: () => this.setUnified(unified),
    }, word);
    redraw(this.tools, ...names, ...(diff.marks ? [
      h("button", {
        class: "hh-button", type: "button", "aria-pressed": String(state.onlyErrors), title: "Hide what is the same (s)", "data-focus": "only", onclick: () => this.toggleOnly(),
      }, "Changes only"),
      h("span", { class: "hh-space" }),
      h("span", { class: "hh-item" }, step(-1, "Change before (N)"), h("span", { class: "hh-shown", role: "status" },
        place < 0 ? plural(changes.length, "change") : `${count(place + 1)} of ${plural(changes.length, "change")}`), step(1, "Next change (n)")),
      h("span", {
        class: "hh-seg", role: "radiogroup", "aria-label": "Layout", onkeydown: (/** @type {KeyboardEvent} */ event) => {
          if (!event.key.startsWith("Arrow")) return;
          event.preventDefault();
          this.setUnified(!state.unified);
          focusOn(this.tools.querySelector("[aria-checked=true]"));
        },
      }, layout("Side by side", false), layout("Unified", true)),
    ] : []));
  }

  drawTree() {
    const { trace, state } = this;
    this.list.show(rowsWithSelected(trace, state));
    const same = trace.spans.length - this.list.rows.reduce((sum, row) => sum + (row.items?.length ?? 1), 0);
    this.more.hidden = !state.onlyErrors || !same;
    this.more.textContent = `${plural(same, "more span")} ${same === 1 ? "is" : "are"} the same`;
    this.main.style.setProperty("--hh-list", `${this.list.height + 24}px`);
  }

  /** @param {Row} row @param {() => void} toggle */
  drawRow(row, toggle) {
    const { name, kind, model, sign, what } = /** @type {DiffRow} */ (row.span);
    const times = row.items?.length;
    const { old, now, tokens } = numbers(row);
    const change = old === null || now === null ? "" : signed(now - old, duration);
    const big = this.diff?.slower.includes(row.span.order) && !times;
    const note = times ? "" : what || model;
    return {
      label: [`${MARK_WORDS[sign] ?? "the same"}: ${kindOf(kind).word} ${name}`, times && `${count(times)} times`, what.replace(/^(added|removed)(, )?/, ""), now === null ? null : duration(now), change].filter(Boolean).join(", "),
      cells: [
        h("span", { class: "hh-sign", title: MARK_WORDS[sign] ?? null }, sign),
        h("div", { class: `hh-label${sign === "−" ? " hh-gone" : ""}` }, Array.from({ length: row.depth }, () => h("span", { class: "hh-guide" })),
          h("span", {
            class: "hh-twisty", onclick: (/** @type {Event} */ event) => {
              event.stopPropagation();
              toggle();
            },
          }, row.expanded === null ? null : chevron()),
          kindMark(kind), h("span", { class: "hh-name", title: name }, sign === "≠" ? h("b", null, name) : name), times ? h("span", { class: "hh-times", title: "Median times" }, `×${count(times)}`) : null,
          h("span", { class: what ? "hh-what" : "hh-model", title: note }, note)),
        h("span", { class: `hh-n${now === null ? " hh-quiet" : ""}` }, duration(now ?? old ?? 0)),
        h("span", { class: "hh-n" }, big ? h("b", null, change) : h("span", { class: "hh-quiet" }, change)),
        h("span", { class: "hh-n hh-n-tokens hh-quiet" }, tokens === null ? "" : signed(tokens, count)),
      ],
    };
  }

  drawLegend() {
    const hint = (/** @type {string[]} */ [key, word]) => h("span", { class: "hh-item" }, h("kbd", null, key), word);
    const marks = Object.entries(MARK_WORDS).filter(([mark]) => this.diff?.marks.includes(mark));
    redraw(this.legend, ...marks.map(([mark, word]) => h("span", { class: "hh-item" }, h("span", { class: "hh-sign" }, mark), word)),
      h("span", { class: "hh-item" }, h("del", null, "old words"), h("ins", null, "new words")), h("span", { class: "hh-space" }), ...DIFF_KEYS.filter(([key]) => "nsu".includes(key)).map(hint),
      h("button", { class: "hh-keys-button", type: "button", "aria-expanded": String(this.keys), "data-focus": "keys", onclick: () => this.toggleKeys() }, h("kbd", null, "?"), "keys"),
      this.keys ? h("dl", { class: "hh-keys" }, DIFF_KEYS.map(([key, action]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, action)))) : "");
  }

  // What a user does.

  toggleKeys() {
    this.keys = !this.keys;
    this.drawLegend();
  }

  toggleOnly() {
    this.state.onlyErrors = !this.state.onlyErrors;
    this.draw();
  }

  /** @param {boolean} unified */
  setUnified(unified) {
    this.state.unified = unified;
    this.draw();
  }

  /** Go to the next change, or the one before; wraps around. @param {number} by 1 or -1 */
  go(by) {
    const { changes, state } = this;
    if (!changes.length) return;
    const at = this.trace.byId.get(state.selected ?? "")?.order ?? -1;
    const row = by > 0 ? changes.find((one) => one.order > at) ?? changes[0] : changes.filter((one) => one.order < at).pop() ?? changes[changes.length - 1];
    for (let above = row.parent; above; above = above.parent) state.toggled.delete(above.id);
    state.selected = row.id;
    this.drawTree();
    this.list.select(this.list.index);
  }

  /** Handle a key. Returns whether it has a meaning here. @param {KeyboardEvent} event */
  key({ key, target }) {
    /** @type {Record<string, () => void>} */
    const actions = {
      n: () => this.go(1), N: () => this.go(-1), s: () => this.toggleOnly(), u: () => this.setUnified(!this.state.unified), "?": () => this.toggleKeys(),
      Escape: () => (this.right.contains(/** @type {Node} */ (target)) ? this.list.focus() : this.on.close()),
    };
    actions[key]?.();
    return key in actions;
  }

  // What differs of a span.

  /** @param {Row} row */
  async showRow(row) {
    this.drawTools();
    const { diff } = this;
    const { id } = row.span;
    const isShown = () => this.state.selected === row.key && this.diff === diff;
    if (!diff || row.items) return this.drawFold(row);
    if (!this.cache.has(id)) {
      const late = setTimeout(() => isShown() && this.drawPane(row, "Loading from the kernel…"), LOADING_MS);
      try {
        const texts = await this.on.texts(diff.id, row.span.order);
        if (!texts && isShown()) return this.load(); // The kernel keeps the latest diffs only.
        this.cache.set(id, texts);
      } catch {
        return isShown() && this.drawPane(row, NO_ANSWER);
      } finally {
        clearTimeout(late);
      }
    }
    if (isShown()) this.drawPane(row, "", this.cache.get(id));
  }

  /** @param {Row} row */
  drawFold(row) {
    const { old, now } = numbers(row);
    this.drawPane(row, `${plural(row.items?.length ?? 0, "span")} with the same content, shown as one row. Open the row for each of them. Median time ${duration(old ?? 0)} → ${duration(now ?? 0)}.`);
  }

  /** @param {Row} row @param {string} note in place of the texts @param {SpanDiff | null} [texts] */
  drawPane(row, note, texts) {
    const { sign, kind, name, model, what } = /** @type {DiffRow} */ (row.span);
    const sections = texts?.sections ?? [];
    this.labelled = false;
    const hint = note || (texts && !texts.compared ? "The content of this span is no longer kept." : sections.length ? "" : "This span has no content besides its duration.");
    redraw(this.right, h("div", { class: "hh-head" },
      h("div", { class: "hh-title" }, h("span", { class: "hh-sign" }, sign), kindMark(kind), h("span", { class: "hh-name" }, name), h("span", { class: "hh-model" }, model)),
      h("div", { class: "hh-facts-line" }, (texts?.facts ?? []).map(([text, change]) => fact(text, change)), MARK_WORDS[sign] && sign !== "≠" ? h("span", null, what) : null)),
    h("div", { class: "hh-pane" }, hint ? h("p", { class: "hh-hint", role: "status" }, hint) : null, sections.map((section) => this.section(section))));
  }

  /** @param {SpanDiff["sections"][number]} section */
  section({ title, texts }) {
    const brief = (/** @type {DiffText} */ { pieces }) => pieces && (title === "Parameters" || !["Messages", "Answer", "Tools"].includes(title)) && sides(pieces).every((side) => side.length <= BRIEF && !side.includes("\n"));
    const changed = texts.filter(({ pieces }) => pieces);
    const table = changed.filter(brief);
    const words = texts.map(({ pieces }) => (pieces ? changeOf(pieces) : "the same"));
    const counts = ["changed", "added", "removed", "the same"].map((word) => [words.filter((one) => one === word).length, word]).filter(([number]) => number).map((pair) => pair.join(" ")).join(", ");
    const alone = !changed.length && ["+", "−"].includes(this.signShown);
    const others = texts.filter((text) => !table.includes(text) && (title !== "Parameters" || text.pieces || alone));
    return h("section", null, h("div", { class: "hh-section" }, title, " ", alone || texts.length < 2 ? null : h("span", null, counts)),
      this.labelled || !others.some(({ pieces }) => pieces && changeOf(pieces) === "changed") ? null : this.labels(),
      table.length ? this.table(table) : null, others.map((text) => (text.pieces ? this.pair(text, text.pieces) : sameText(text, alone))));
  }

  /** Names of the runs above texts side by side, once. */
  labels() {
    this.labelled = true;
    return this.state.unified ? null : h("div", { class: "hh-pair hh-pair-cols", "aria-hidden": "true" }, this.runs.map((name) => h("span", null, name)));
  }

  get signShown() {
    return /** @type {DiffRow | undefined} */ (this.trace.byId.get(this.state.selected ?? ""))?.sign ?? "";
  }

  /** @returns {string[]} names of the runs, without their times */
  get runs() {
    return this.diff ? [this.diff.runs[this.diff.old], this.diff.runs[this.diff.new]].map(({ name }) => name.split(", ")[0]) : [];
  }

  /** @param {DiffText[]} texts */
  table(texts) {
    return h("table", { class: "hh-table" }, h("thead", null, h("tr", null, ["Name", ...this.runs].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, texts.map(({ name, pieces }) => {
        const [old, now] = sides(pieces ?? []);
        return h("tr", null, h("th", { scope: "row" }, name), h("td", null, old ? h("del", null, old) : null), h("td", null, now ? h("ins", null, now) : null));
      })));
  }

  /** @param {DiffText} text @param {NonNullable<DiffText["pieces"]>} pieces */
  pair({ name, lengths }, pieces) {
    const change = changeOf(pieces);
    const head = h("div", { class: "hh-pair-head" }, h("b", null, name), h("span", { class: "hh-quiet" }, change === "changed" ? "≠" : change), h("span", { class: "hh-space" }), h("span", { class: "hh-quiet" }, lengths));
    const both = (/** @type {string} */ more) => h("div", { class: `hh-unified ${more}` }, markedText(pieces, "both"));
    if (this.state.unified || change !== "changed") return h("div", { class: "hh-pair" }, head, both(""));
    return h("div", { class: "hh-pair" }, head, h("div", { class: "hh-half", title: this.runs[0] }, markedText(pieces, "old")), h("div", { class: "hh-half", title: this.runs[1] }, markedText(pieces, "new")), both("hh-narrow"));
  }
}

/** Both texts of a pair. @param {NonNullable<DiffText["pieces"]>} pieces */
const sides = (pieces) => [0, 1].map((side) => pieces.map((piece) => (typeof piece === "string" ? piece : piece[side])).join(""));

/** @param {NonNullable<DiffText["pieces"]>} pieces */
function changeOf(pieces) {
  const [old, now] = sides(pieces);
  return !old ? "added" : !now ? "removed" : "changed";
}

/** A text that is the same in both runs: one line, and all of it on a click. @param {DiffText} text @param {boolean} open */
function sameText({ name, text = "" }, open) {
  return h("details", { class: "hh-same", open }, h("summary", null, h("b", null, name), h("span", { class: "hh-name" }, text.slice(0, 200)), open ? null : h("span", null, "the same")),
    h("div", { class: "hh-text" }, text));
}
