/** The detail pane of one span or one fold. Its content is requested from the kernel when it opens. */

/** @import { Child, Details, Feedback, Row, Shown, Span, State } from "./types.js" */

import { attributes, documents, errorPath, failure, inputAndOutput, messages, request, tabText } from "./content.js";
import { copyText, count, duration, focusOn, h, kindMark, NO_ANSWER, plural, redraw, toolButton } from "./dom.js";
import { markAll, patternOf } from "./search.js";
import { foldFacts } from "./trace.js";

const MAX_CACHED = 40;
const MAX_CACHED_WITH_IMAGES = 4;
const LOADING_DELAY_MS = 150;

export class Detail {
  /**
   * @param {string} uid prefix of DOM ids
   * @param {State} state of the view
   * @param {{fetch: (id: string) => Promise<Details | null>, give: (id: string, given: Feedback) => Promise<string>, leave: () => void,
   *   wide: () => void, full: () => void, again: ((span: Span) => void) | null}} on `give` feedback, which returns why it was not saved;
   *   `leave`: Escape was pressed; `wide` and `full`: give the details more room, or less; `again`: open the request of a model call for editing
   */
  constructor(uid, state, on) {
    this.uid = uid;
    this.state = state;
    this.on = on;
    /** @type {string | undefined} the span or fold that is shown */
    this.shown = undefined;
    /** @type {Map<string, Details | null>} replies of the kernel, the oldest evicted first */
    this.cache = new Map();
    /** The tab that is shown. */
    this.tab = "";
    /** @type {Span | undefined} the span whose details are drawn */
    this.shownSpan = undefined;
    /** What is drawn, to draw it again only if it changed: text that the user unfolded or selected stays so. */
    this.drawn = "";
    /** @type {Element[]} marks of the search in what is shown, and which of them is current */
    this.marks = [];
    this.mark = -1;
    /** Where the next span that is shown has its current mark: 1 at the first, -1 at the last. */
    this.landing = 0;
    /** @type {string[]} tabs with a hit */
    this.found = [];
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
        if (isShown() && this.cache === cache) this.draw(span, null, NO_ANSWER);
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

  /** Draw what is shown again. */
  redraw() {
    this.drawn = "";
    if (this.shownSpan && this.shown === this.shownSpan.id) this.showSpan(this.shownSpan);
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
        h("span", { class: "hh-times" }, `×${count(items.length)}`), h("span", { class: "hh-space" }), this.sizeButtons()),
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
    const { tab, wide, query } = this.state;
    const drawn = JSON.stringify([id, tab, wide, query, running || [start, end, own], errorPath(span)?.textContent, details, missing]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.shownSpan = span;
    redraw(this.element, this.head(span, details ?? {}), ...(details ? this.tabs(span, details) : [
      h("div", { class: "hh-pane hh-hint", role: "status" }, missing)]));
    this.marks = markAll(this.element.querySelector("[role=tabpanel]"), patternOf(query));
    for (const earlier of this.element.querySelectorAll(".hh-earlier")) {
      const hits = earlier.nextElementSibling?.querySelectorAll("mark").length;
      if (hits) earlier.append(`, ${plural(hits, "hit")}`);
    }
    this.mark = -1;
    if (this.landing && details) this.land();
  }

  /** Go to the first or last mark of a span that a step of the search has reached. */
  land() {
    const by = this.landing;
    this.landing = 0;
    this.goToMark(by > 0 ? 0 : this.marks.length - 1);
  }

  /** Go to the next mark or the one before, also in the next tab; false if there is none. @param {number} by 1 or -1 */
  step(by) {
    if (this.goToMark(this.mark < 0 && by < 0 ? this.marks.length - 1 : this.mark + by)) return true;
    const tabs = /** @type {HTMLElement[]} */ ([...this.element.querySelectorAll("[role=tab]")]);
    const at = tabs.findIndex((tab) => tab.getAttribute("aria-selected") === "true");
    const others = by > 0 ? tabs.slice(at + 1) : tabs.slice(0, Math.max(0, at)).reverse();
    const next = others.find((tab) => this.found.includes(tab.dataset.name ?? ""));
    if (!next) return false;
    this.landing = by;
    next.click();
    return true;
  }

  /** Frame a mark, and open what hides it. @param {number} index */
  goToMark(index) {
    const mark = this.marks[index];
    if (!mark) return false;
    this.marks[this.mark]?.classList.remove("hh-current");
    this.mark = index;
    mark.classList.add("hh-current");
    for (let above = mark.parentElement; above && above !== this.element; above = above.parentElement) {
      if (above.hidden) /** @type {HTMLElement | null} */ (above.previousElementSibling)?.click();
      if (above.matches(".hh-clamp:not(.hh-full)")) above.click();
    }
    const [box, line] = [this.element.getBoundingClientRect(), mark.getBoundingClientRect()];
    const head = this.element.querySelector(".hh-head")?.clientHeight ?? 0;
    if (line.top < box.top + head || line.bottom > box.bottom) this.element.scrollTop += line.top - box.top - head - 40;
    return true;
  }

  /**
   * @param {Span} span
   * @param {Details} details
   */
  head(span, details) {
    const given = scores(details);
    const [thumbs, note] = panesOf(details).length && !span.running ? feedbackTools(details.feedback ?? {}, (given) => this.give(span.id, details, given)) : [];
    const redacted = details.redacted ? plural(details.redacted, "value") : "";
    return h("div", { class: "hh-head" },
      h("div", { class: "hh-title" }, kindMark(span.kind),
        h("div", { class: "hh-names" }, h("span", { class: "hh-name" }, span.name), h("span", { class: "hh-model" }, span.model)),
        this.on.again && span.kind === "llm" && details.messages ? h("button", {
          class: "hh-button", type: "button", title: "Change the request and make the call again (r)", "data-focus": "again", onclick: () => this.on.again?.(span),
        }, "Run again") : null,
        this.buttons, panesOf(details).length ? toolButton("copy", "Copy (what is shown here, as text)", (/** @type {any} */ { currentTarget }) => copyText(
          tabText(this.tab, details), "Text", currentTarget, this.element)) : null, this.sizeButtons()),
      h("div", { class: "hh-facts-line" }, facts(span, details),
        redacted ? h("span", { class: "hh-redacted" }, `${redacted} redacted`) : null,
        details.dropped ? h("span", null, `${plural(details.dropped, "attribute")} dropped by the limit`) : null, given.length ? null : thumbs),
      given.length ? h("div", { class: "hh-chips" }, given, thumbs) : null, note);
  }

  sizeButtons() {
    return [
      toolButton("wide", "Wide details (w)", this.on.wide, { "aria-pressed": String(this.state.wide) }),
      toolButton("full", "Whole screen (f)", this.on.full, { "aria-pressed": String(Boolean(this.element.closest("dialog"))) }),
    ];
  }

  /** Press a thumb of the span that is shown. @param {"good" | "bad"} name */
  rate(name) {
    /** @type {HTMLElement | null} */ (this.element.querySelector(`[data-focus=${name}]`))?.click();
  }

  /**
   * Save feedback, and show it at once.
   * @param {string} id of the span
   * @param {Details} details
   * @param {Feedback} given
   */
  async give(id, details, given) {
    const problem = await this.on.give(id, given).catch(() => NO_ANSWER);
    const status = this.element.querySelector(".hh-unsaved");
    if (problem && status && this.shown === id) status.textContent = problem;
    if (problem || !this.shownSpan || this.shown !== id) return;
    const feedback = withFeedback(details.feedback, given);
    const changed = Object.defineProperties({ ...details, feedback }, details.images ? { images: { value: details.images } } : {});
    this.cache.set(id, changed);
    this.draw(this.shownSpan, changed);
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
    const beside = this.state.wide && panes.includes("Messages") && panes.includes("Request");
    if (beside) panes.splice(panes.indexOf("Request"), 1);
    /** @type {Record<string, () => Child>} */
    const content = {
      Error: () => error && failure(error, span, details.input),
      Messages: () => (beside ? h("div", { class: "hh-two" }, h("div", null, messages(details)), h("div", null, request(details))) : messages(details)),
      Request: () => request(details), Documents: () => documents(details.documents ?? []),
      "Input and output": () => inputAndOutput(details), Attributes: () => attributes(details.attributes ?? []),
    };
    const pattern = patternOf(this.state.query);
    this.found = panes.filter((name) => pattern && (h("div", null, content[name]()).textContent ?? "").search(pattern) >= 0);
    // Attributes hold the same texts.
    if (this.found.length > 1) this.found = this.found.filter((name) => name !== "Attributes");
    const current = panes.find((name) => name === this.state.tab) ?? this.found[0] ?? panes[0];
    this.tab = current;
    const pane = `${this.uid}-pane`;
    const tabs = panes.map((name) => h("button", {
      type: "button", role: "tab", id: `${pane}-${name[0]}`, "aria-selected": String(name === current), "aria-controls": pane,
      tabindex: name === current ? 0 : -1, "data-focus": `tab-${name}`, "data-name": name,
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

/** The feedback after more is given; null takes back. @param {Record<string, any> | undefined} before @param {Feedback} given */
export const withFeedback = (before, given) => Object.fromEntries(Object.entries({ ...before, ...given }).filter(([, one]) => one !== null));

/**
 * Thumbs, and the line of a note, which opens below them.
 * @param {Record<string, any>} feedback that is given
 * @param {(given: Feedback) => void} give
 * @param {string} [of] what they are about, if there are several: prefix of `data-focus`
 * @returns {[HTMLElement, HTMLElement]}
 */
export function feedbackTools({ ok, note }, give, of = "") {
  const field = h("input", { class: "hh-filter", "aria-label": "Note", placeholder: "Note", value: note ?? "", maxlength: 2000, onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && save() });
  const save = () => give({ note: field.value.trim() || null });
  const line = h("div", { class: "hh-noteline", hidden: true }, field, h("button", { class: "hh-button", type: "button", onclick: save }, "Save"));
  const thumb = (/** @type {string} */ name, /** @type {string} */ title, /** @type {boolean} */ means) => toolButton(name, title,
    () => give({ ok: ok === means ? null : means }), { "aria-pressed": String(ok === means), "data-focus": of + name });
  const open = toolButton("note", "Note", () => {
    line.hidden = !line.hidden;
    open.setAttribute("aria-expanded", String(!line.hidden));
    focusOn(line.hidden ? null : field);
  }, { "aria-expanded": "false", "data-focus": `${of}note` });
  return [h("span", { class: "hh-feedback" }, h("span", { class: "hh-unsaved", role: "status" }), thumb("good", "Good (+)", true), thumb("bad", "Bad (−)", false), open), line];
}

/**
 * The names of the tabs that have content.
 * @param {Details} details
 */
const panesOf = ({ error, messages: list, params, tools, input, output, documents: found, attributes: known }) => [
  error && "Error", list?.length && "Messages", (Object.keys(params ?? {}).length || tools?.length) && "Request", found?.length && "Documents",
  (input !== undefined || output !== undefined) && "Input and output",
  known?.length && "Attributes",
].filter((name) => typeof name === "string");

/**
 * Metrics and feedback as chips; the thumbs show `ok`.
 * @param {Details} details
 */
function scores({ metrics = {}, feedback = {} }) {
  const chip = (/** @type {string} */ source, /** @type {[string, any]} */ [name, data]) => {
    const parts = data !== null && typeof data === "object" && !Array.isArray(data) ? data : { value: data };
    const shown = parts.label ?? parts.value ?? parts.error ?? data;
    const why = typeof parts.explanation === "string" ? `: ${parts.explanation}` : "";
    return h("span", { class: "hh-chip hh-small", title: `${source} ${name}${why}` }, `${name} `, h("b", null, typeof shown === "object" ? JSON.stringify(shown) : String(shown)));
  };
  return [...Object.entries(metrics).map((one) => chip("Metric", one)),
    ...Object.entries(feedback).filter(([name, data]) => name !== "ok" || typeof data !== "boolean").map((one) => chip("Feedback", one))];
}

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
