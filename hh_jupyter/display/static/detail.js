/** The detail pane of one span or one fold. Its content is requested from the kernel when it opens. */

/** @import { Child, Details, Row, Shown, Span, State } from "./types.js" */

import { attributes, errorPath, failure, inputAndOutput, messages, tabText } from "./content.js";
import { copyText, count, duration, focusOn, h, kindMark, plural, redraw } from "./dom.js";
import { foldFacts } from "./trace.js";

const MAX_CACHED = 40;
const MAX_CACHED_WITH_IMAGES = 4;
const LOADING_DELAY_MS = 150;

export class Detail {
  /**
   * @param {string} uid prefix of DOM ids
   * @param {State} state of the view
   * @param {{fetch: (id: string) => Promise<Details | null>, leave: () => void, again: ((span: Span) => void) | null}} on `leave`: Escape was
   *   pressed; `again`: open the request of a model call for editing
   */
  constructor(uid, state, on) {
    this.uid = uid;
    this.state = state;
    this.on = on;
    /** @type {string | undefined} the span or fold that is shown */
    this.shown = undefined;
    /** @type {Map<string, Details | null>} replies of the kernel, the oldest evicted first */
    this.cache = new Map();
    /** What is drawn, to draw it again only if it changed: text that the user unfolded or selected stays so. */
    this.drawn = "";
    /** @type {HTMLElement[]} buttons of the view that stand in the head */
    this.buttons = [];
    this.element = h("div", { class: "hh-right", tabindex: -1, role: "group", "aria-label": "Details", onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event) });
  }

  /** Drop all replies, also those on their way, which may be outdated: a running span ends, an ended one gets late events. */
  clearCache() {
    this.cache = new Map();
  }

  /** Show a row's details. @param {Shown} row */
  show(row) {
    if (row.items) this.drawFold(/** @type {Row} */ (row), row.items);
    else this.showSpan(row.span);
  }

  /** @param {Span} span */
  async showSpan(span) {
    const { cache } = this;
    const isShown = () => this.shown === span.id;
    const wasShown = isShown();
    this.shown = span.id;
    if (!cache.has(span.id)) {
      const late = setTimeout(() => isShown() && !wasShown && this.draw(span, null, "Loading from the kernel…"), LOADING_DELAY_MS);
      try {
        cache.set(span.id, await this.on.fetch(span.id));
      } catch {
        if (isShown() && this.cache === cache) this.draw(span, null, "The kernel does not respond.");
        return;
      } finally {
        clearTimeout(late);
      }
      this.evictOldest();
    }
    // A newer reply is there, or the user went on.
    if (!isShown() || (this.cache !== cache && this.cache.has(span.id))) return;
    this.draw(span, cache.get(span.id) ?? null, span.running ? "The span is still running. Its input and output appear when it ends."
      : "The details of this span are no longer in memory.");
  }

  /** Evict the oldest replies; those with images take megabytes, so that fewer of them are kept. */
  evictOldest() {
    const ids = [...this.cache.keys()];
    const withImages = ids.filter((id) => this.cache.get(id)?.images);
    if (withImages.length > MAX_CACHED_WITH_IMAGES) this.cache.delete(withImages[0]);
    if (ids.length > MAX_CACHED) this.cache.delete(ids[0]);
  }

  /**
   * Show the statistics of a fold, which need no request.
   * @param {Row} row
   * @param {Span[]} items
   */
  drawFold({ key, span }, items) {
    this.shown = key;
    this.drawn = "";
    const facts = foldFacts(items);
    /** @type {[string, number][]} */
    const numbers = [["p50", facts.p50], ["p95", facts.p95], ["max", facts.max], ["sum", facts.sum]];
    this.element.replaceChildren(h("div", { class: "hh-head" },
      h("div", { class: "hh-title" }, kindMark(span.kind), h("span", { class: "hh-name" }, span.name),
        h("span", { class: "hh-times" }, `×${count(items.length)}`)),
      h("div", { class: "hh-facts-line" }, numbers.map(([word, ms]) => h("span", null, `${word} `, h("b", null, duration(ms)))),
        facts.tokens === null ? null : h("span", null, h("b", null, count(facts.tokens)), " tokens"))),
    h("div", { class: "hh-pane" }, h("p", { class: "hh-hint" }, "Repeated calls shown as one row. Open the row for each of them.")));
  }

  /**
   * @param {Span} span
   * @param {Details | null} details
   * @param {string} [missing] text to show if there are none
   */
  draw(span, details, missing = "") {
    const { id, start, end, running, own } = span;
    const drawn = JSON.stringify([id, this.state.tab, running || [start, end, own], errorPath(span)?.textContent, details, missing]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    redraw(this.element, this.head(span, details ?? {}), ...(details ? this.tabs(span, details) : [
      h("div", { class: "hh-pane hh-hint", role: "status" }, missing)]));
  }

  /**
   * @param {Span} span
   * @param {Details} details
   */
  head(span, details) {
    const redacted = details.redacted ? plural(details.redacted, "value") : "";
    return h("div", { class: "hh-head" },
      h("div", { class: "hh-title" }, kindMark(span.kind), h("span", { class: "hh-name" }, span.name),
        h("span", { class: "hh-model" }, span.model), h("span", { class: "hh-space" }),
        this.on.again && span.kind === "llm" && details.messages ? h("button", {
          class: "hh-button", type: "button", title: "Change the request and make the call again (r)", "data-focus": "again", onclick: () => this.on.again?.(span),
        }, "Run again") : null,
        h("button", {
          class: "hh-button", type: "button", title: "Copy what is shown here as text", "data-focus": "copy", hidden: !panesOf(details).length,
          onclick: (/** @type {any} */ { target }) => copyText(tabText(this.tabOf(panesOf(details)), details), "Text", target, this.element),
        }, "Copy"), this.buttons),
      h("div", { class: "hh-facts-line" }, facts(span, details),
        redacted ? h("span", { class: "hh-redacted" }, `${redacted} redacted`) : null,
        details.dropped ? h("span", null, `${plural(details.dropped, "attribute")} dropped by the limit`) : null));
  }

  /**
   * Tabs, each only if it has content.
   * @param {Span} span
   * @param {Details} details
   * @returns {HTMLElement[]}
   */
  tabs(span, details) {
    const { error, hint } = details;
    const panes = panesOf(details);
    if (!panes.length) return [h("div", { class: "hh-pane hh-hint" }, "This span has no content besides its duration.")];
    const current = this.tabOf(panes);
    /** @type {Record<string, () => Child>} */
    const content = {
      Error: () => error && failure(error, span, details.input), Messages: () => messages(details),
      "Input and output": () => inputAndOutput(details), Attributes: () => attributes(details.attributes ?? []),
    };
    const pane = `${this.uid}-pane`;
    const tabs = panes.map((name) => h("button", {
      type: "button", role: "tab", id: `${pane}-${name[0]}`, "aria-selected": String(name === current), "aria-controls": pane,
      tabindex: name === current ? 0 : -1, "data-focus": `tab-${name}`,
      onclick: () => {
        this.state.tab = name;
        this.draw(span, details);
      },
    }, name === "Error" && span.error === "cancelled" ? "Stopped" : name));
    return [
      h("div", { class: "hh-tabs", role: "tablist", "aria-label": "Details", onkeydown: (/** @type {KeyboardEvent} */ event) => turn(event, tabs) }, tabs),
      h("div", { class: "hh-pane", role: "tabpanel", id: pane, "aria-labelledby": `${pane}-${current[0]}` },
        hint && current !== "Error" ? h("p", { class: "hh-hint", role: "note" }, hint) : null, content[current]()),
    ];
  }

  /** The tab that is shown: the one that the user chose, if the span has it. @param {string[]} panes */
  tabOf(panes) {
    return panes.find((name) => name === this.state.tab) ?? panes[0];
  }

  /** Move the focus from the tree to the selected tab. */
  enter() {
    focusOn(this.element.querySelector("[role=tab][aria-selected=true]") ?? this.element);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    this.on.leave();
  }
}

/**
 * The names of the tabs that have content.
 * @param {Details} details
 */
const panesOf = ({ error, messages: list, input, output, documents, attributes: known }) => [
  error && "Error", list?.length && "Messages", (input !== undefined || output !== undefined || documents?.length) && "Input and output",
  known?.length && "Attributes",
].filter((name) => typeof name === "string");

/**
 * Move between tabs by arrow keys.
 * @param {KeyboardEvent} event
 * @param {HTMLElement[]} tabs
 */
function turn(event, tabs) {
  const step = Number(event.key === "ArrowRight") - Number(event.key === "ArrowLeft");
  const at = tabs.indexOf(/** @type {HTMLElement} */ (event.target));
  if (!step || at < 0) return;
  event.preventDefault();
  event.stopPropagation();
  const next = tabs[(at + step + tabs.length) % tabs.length];
  next.focus();
  next.click();
}

/**
 * Duration, tokens, cost, first token, speed. Unknown ones are left out, except the cost of a call with known usage.
 * @param {Span} span
 * @param {Details} details
 */
function facts(span, details) {
  const ms = span.end - span.start;
  const own = span.own.reduce((sum, [start, end]) => sum + end - start, 0);
  const { usage } = details;
  const parts = [h("span", null, h("b", null, span.running ? "running" : duration(ms)), span.children.length && !span.running ? ` (own ${duration(own)})` : "")];
  if (usage) {
    const out = usage.completion === null ? null : [usage.prompt === null ? "" : ", ", h("b", null, count(usage.completion)), " out"];
    parts.push(h("span", null, usage.prompt === null ? null : [h("b", null, count(usage.prompt)), " in"], out,
      usage.cached ? `, ${count(usage.cached)} cached` : "", usage.reasoning ? `, ${count(usage.reasoning)} reasoning` : ""));
  }
  if (details.cost) parts.push(h("span", null, h("b", null, details.cost), details.prices ? ` by ${details.prices}` : ""));
  else if (usage) parts.push(h("span", null, "cost unknown"));
  if (span.first !== null) {
    parts.push(h("span", null, "first token ", h("b", null, duration(span.first))));
    const seconds = (ms - span.first) / 1000;
    if (usage?.completion && seconds > 0) parts.push(h("span", null, h("b", null, count(Math.round(usage.completion / seconds))), " tok/s"));
  }
  if (details.finish_reason && details.finish_reason !== "stop") parts.push(h("span", null, `finished by ${details.finish_reason}`));
  return parts;
}
