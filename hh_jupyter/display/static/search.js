/** The search in names and contents: the kernel counts the hits of each span, the page marks them in its texts. */

/** @import { Child, SearchReply, State } from "./types.js" */

import { count, h, plural, toolButton } from "./dom.js";

const PAUSE_MS = 120;

/**
 * What a search looks for: any case, any white space between words; null without words.
 * @param {string} query
 */
export function patternOf(query) {
  const words = query.split(/\s+/).filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
  return words.length ? new RegExp(words.join("\\s+"), "giu") : null;
}

/**
 * A text with its hits marked.
 * @param {string} value
 * @param {RegExp | null} pattern
 * @returns {Child}
 */
export function marked(value, pattern) {
  if (!pattern) return value;
  /** @type {Child[]} */
  const parts = [];
  let end = 0;
  for (const match of value.matchAll(pattern)) {
    parts.push(value.slice(end, match.index), h("mark", null, match[0]));
    end = match.index + match[0].length;
  }
  return [...parts, value.slice(end)];
}

/**
 * Mark the hits in the texts of an element. Buttons keep their words.
 * @param {Element | null} root
 * @param {RegExp | null} pattern
 */
export function markAll(root, pattern) {
  if (!root || !pattern) return [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  /** @type {Text[]} */
  const texts = [];
  while (walker.nextNode()) texts.push(/** @type {Text} */ (walker.currentNode));
  for (const text of texts) {
    if (text.data.search(pattern) < 0 || text.parentElement?.closest("button")) continue;
    const holder = h("span", null, marked(text.data, pattern));
    text.replaceWith(...holder.childNodes);
  }
  return [...root.querySelectorAll("mark")];
}

/** The field, the number of hits and the arrows. */
export class Search {
  /**
   * @param {State} state of the view
   * @param {{has: (span: string) => boolean, fetch: (text: string) => Promise<SearchReply | null>, changed: (answered: boolean) => void, step: (by: number) => void}} on
   *   `has`: the trace has a span; `changed`: other rows are to be shown, `answered` after the first answer; `step`: go to the next hit or the one before
   */
  constructor(state, on) {
    this.state = state;
    this.on = on;
    this.asked = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.pause = undefined;
    /** Why there may be more hits. */
    this.note = "";
    this.field = h("input", {
      type: "search", class: "hh-filter", placeholder: "Search names and contents", "aria-label": "Search names and contents", value: state.query,
      oninput: () => this.changed(), onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        on.step(event.shiftKey ? -1 : 1);
      },
    });
    this.arrows = h("span", { class: "hh-arrows", hidden: true }, toolButton("up", "Hit before (Shift+Enter)", () => on.step(-1)), toolButton("down", "Next hit (Enter)", () => on.step(1)));
  }

  changed() {
    this.state.query = this.field.value;
    this.state.hits = null;
    this.state.all = false;
    this.note = "";
    this.later();
    this.on.changed(false);
  }

  /** Ask the kernel when the user pauses. */
  later() {
    clearTimeout(this.pause);
    this.asked += 1;
    if (patternOf(this.state.query)) this.pause = setTimeout(() => this.ask(), PAUSE_MS);
  }

  /** Ask for the hits; `more`: for further ones of the same text, while spans are still to be read. */
  async ask(more = false) {
    this.asked += 1;
    const number = this.asked;
    const reply = await this.on.fetch(this.state.query).catch(() => null);
    if (number !== this.asked) return;
    if (reply?.left) this.ask(true);
    this.note = !reply ? ", only names were searched" : reply.left ? ", searching…" : "";
    this.state.hits = new Map(Object.entries(reply?.hits ?? {}).filter(([id]) => this.on.has(id)));
    this.on.changed(!more);
  }

  /**
   * "9 hits in 4 of 22 spans"; without a hit how many rows match by kind or model.
   * @param {number} spans of the trace
   * @param {number} rows that are shown
   */
  text(spans, rows) {
    const { hits, query } = this.state;
    const sum = [...(hits?.values() ?? [])].reduce((all, one) => all + one, 0);
    this.arrows.hidden = !query || !sum;
    if (!query || !hits) return query ? `${count(rows)} of ${count(spans)} shown` : "";
    return sum || !rows ? `${plural(sum, "hit")} in ${count(hits.size)} of ${count(spans)} spans${this.note}` : `${count(rows)} of ${count(spans)} shown${this.note}`;
  }
}
