/** One trace under one cell: summary bar, notice, toolbar, tree, detail pane, legend. */

/** @import { Details, Header, Row, Span, State, Trace } from "./types.js" */

import { copyText, plainRow } from "./clipboard.js";
import { Detail } from "./detail.js";
import { count, duration, focusOn, h, plural } from "./dom.js";
import { legendItems } from "./legend.js";
import { decode, grow } from "./rows.js";
import { noticeRow, raisedRow, summaryBar } from "./summary.js";
import { Tree } from "./tree.js";
import { paintLanes } from "./waterfall.js";

/** State that survives redraws and new outputs of the same view. */
export const newState = () => /** @type {State} */ ({
  open: null, selected: null, chosen: false, first: null, tab: null, toggled: new Map(), query: "", onlyErrors: null, critical: true, keys: false,
});

export class View {
  /**
   * @param {string} uid unique in the page
   * @param {State} state
   * @param {{details: (id: string) => Promise<Details | null>, python: (id: string) => Promise<string | null>,
   *   act: (type: "send" | "save") => Promise<string>}} kernel
   */
  constructor(uid, state, kernel) {
    this.uid = uid;
    this.state = state;
    this.kernel = kernel;
    this.jumped = false;
    /** @type {Element | null} the element that had the focus, while it can be restored */
    this.lastFocus = null;
    /** @type {Header} from the first update on */
    this.header = /** @type {any} */ (undefined);
    /** @type {Trace} from then on */
    this.trace = /** @type {any} */ (undefined);
    /** @type {DataView[] | undefined} */
    this.buffers = undefined;
    this.tree = new Tree(uid, state, {
      select: (/** @type {Row} */ row) => {
        this.state.tab = null;
        this.state.chosen = true;
        this.detail.show(row);
      },
      enter: () => this.detail.enter(),
    });
    this.detail = new Detail(uid, state, {
      fetch: kernel.details, leave: () => this.tree.list.focus(),
    });
    this.bar = h("div", { class: "hh-bar" });
    this.notice = h("div", { class: "hh-notices" });
    this.body = h("div", { class: "hh-body", id: `${uid}-body` });
    this.element = h("div", { class: "hh-view", role: "region", onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event) }, this.bar, this.notice, this.body);
    this.main = h("div", { class: "hh-main" }, this.tree.element, this.detail.element);
    this.legend = h("div", { class: "hh-legend" });
    this.errors = this.toggleButton("Errors", "onlyErrors", "Show only spans with an error and the spans above them");
    this.shown = h("span", { class: "hh-shown", role: "status" });
    this.copyButton = h("button", {
      type: "button", class: "hh-button", "data-focus": "json", title: "Copy all data of the selected span; with Shift the rows of the whole cell (c)",
      onclick: (/** @type {MouseEvent} */ event) => this.copy(event),
    }, "Copy JSON");
    this.pythonButton = h("button", {
      type: "button", class: "hh-button", "data-focus": "python", title: "Copy Python code that fetches the selected span in this kernel (p)", onclick: () => this.copyPython(),
    }, "Copy as Python");
    this.tools = this.toolbar();
  }

  /**
   * Show new data of the kernel, preserving selection and focus.
   * @param {Header} header @param {DataView[]} buffers the same object as before if the rows have not changed
   */
  update(header, buffers) {
    this.header = header;
    if (buffers !== this.buffers) {
      this.buffers = buffers;
      this.trace = decode(header, buffers);
      this.detail.clearCache();
      if (this.state.first && !this.trace.byId.has(this.state.first)) this.reset();
      this.state.first = this.trace.spans[0].id;
    }
    this.state.onlyErrors ??= header.errors_only;
    this.errors.setAttribute("aria-pressed", String(this.state.onlyErrors));
    const moved = this.preselect();
    this.placeButtons(this.trace.spans.length === 1);
    this.element.setAttribute("aria-label", `Trace: ${header.title}, ${plural(this.trace.spans.length, "span")}, ${header.file ? "file" : "cell"} ${header.file ?? header.label}`);
    this.drawBar();
    this.draw();
    // The list has no height before the element is in the page.
    if (moved) requestAnimationFrame(() => this.tree.reveal());
  }

  /** A single span has no toolbar: its buttons are beside its name. @param {boolean} single */
  placeButtons(single) {
    this.element.classList.toggle("hh-one", single);
    const buttons = [this.copyButton, this.pythonButton];
    if (single) this.detail.buttons = buttons;
    else if (this.detail.buttons.length) {
      this.detail.buttons = [];
      this.tools.append(...buttons);
    }
  }

  /** Whether the body is shown: by the user's choice, else by the kernel's. */
  get open() {
    return this.state.open ?? this.header.open;
  }

  /** The cell ran again: clear the selection; stay open only if the user opened the view. */
  reset() {
    this.state.open ||= null;
    this.state.selected = null;
    this.state.tab = null;
    this.state.toggled.clear();
    this.jumped = false;
  }

  /**
   * Select the deepest error, else the last model call, else the root. What the user selected stays, and so does the row of
   * an open view: only an error moves it. Returns whether the selection changed.
   */
  preselect() {
    const { header, state, trace } = this;
    const before = state.selected;
    const there = trace.byId.has(before?.replace("fold-", "") ?? "");
    if (there && (state.chosen || (this.open && !header.errors))) return false;
    const calls = trace.spans.filter((/** @type {Span} */ span) => span.kind === "llm" && !span.repeats);
    state.selected = header.selected ?? (calls[calls.length - 1] ?? trace.spans[0]).id;
    state.chosen = false;
    return state.selected !== before;
  }

  drawBar() {
    const focused = this.element.querySelector(":focus")?.getAttribute("data-focus");
    this.bar.replaceChildren(...summaryBar(this.header, {
      open: this.open, body: this.body.id, spark: this.trace.spans.length > 2,
      toggle: () => this.toggle(), jump: () => this.jump(),
    }));
    const { raised, notice, can_send: canSend } = this.header;
    this.notice.replaceChildren(raised ? raisedRow(raised) : "", notice ? noticeRow(notice, canSend, (type) => this.act(type)) : "");
    if (focused) focusOn(this.element.querySelector(`[data-focus="${focused}"]`));
    this.spark();
  }

  /** Extend running spans and the duration in the bar. @param {number} elapsed milliseconds since the trace's start */
  grow(elapsed) {
    grow(this.trace, elapsed);
    const time = this.bar.querySelector(".hh-duration");
    if (time) time.textContent = duration(this.trace.end);
    this.spark();
    if (this.open) this.tree.update(this.trace);
  }

  /** Paint strip and minimap in the colors of the theme. */
  spark() {
    const canvas = this.bar.querySelector("canvas");
    if (canvas) requestAnimationFrame(() => paintLanes(canvas, this.trace));
    this.tree.paintMinimap();
  }

  draw() {
    this.bar.querySelector("[aria-expanded]")?.setAttribute("aria-expanded", String(this.open));
    this.body.hidden = !this.open;
    if (!this.open) return;
    const single = this.trace.spans.length === 1;
    if (!this.body.childElementCount) this.body.append(this.tools, this.main, this.legend);
    this.tree.update(this.trace);
    this.main.style.setProperty("--hh-list", `${this.tree.height}px`);
    this.shown.textContent = this.shownText();
    this.drawLegend();
    const row = single ? { items: null, span: this.trace.spans[0] } : this.tree.rows[this.tree.index] ?? { items: null, span: this.trace.byId.get(this.state.selected ?? "") };
    if (row.span) this.detail.show(row);
  }

  drawLegend() {
    const focused = this.legend.querySelector(":focus") !== null;
    this.legend.replaceChildren(...legendItems(this.trace, this.state, () => this.toggleKeys()));
    if (focused) focusOn(this.legend.querySelector("button"));
  }

  toggleKeys() {
    this.state.keys = !this.state.keys;
    this.drawLegend();
  }

  toggle() {
    this.state.open = !this.open;
    this.draw();
    if (this.open) this.tree.reveal();
  }

  /** Go to the deepest error first, then to the next ones. */
  jump() {
    if (!this.open) this.toggle();
    if (this.trace.spans.length === 1) return;
    const origin = this.trace.byId.get(this.header.selected ?? "");
    if (origin && !this.jumped) this.tree.goTo(origin);
    else this.tree.nextError();
    this.jumped = true;
    this.tree.list.focus({ preventScroll: true });
  }

  /** Run the action of a notice button and show the kernel's sentence about the outcome. @param {"send" | "save"} type */
  async act(type) {
    let text = "The kernel does not respond.";
    try {
      text = await this.kernel.act(type);
    } catch {
      // The text says it.
    }
    const reply = this.notice.querySelector(".hh-reply");
    if (reply) reply.textContent = text;
  }

  /** @param {string} word @param {"onlyErrors" | "critical"} key @param {string} title */
  toggleButton(word, key, title) {
    const button = h("button", { type: "button", class: "hh-button", title, "aria-pressed": String(Boolean(this.state[key])) }, word);
    button.addEventListener("click", () => {
      this.state[key] = !this.state[key];
      button.setAttribute("aria-pressed", String(this.state[key]));
      this.draw();
    });
    return button;
  }

  toolbar() {
    this.filter = h("input", {
      type: "search", class: "hh-filter", placeholder: "Filter spans", "aria-label": "Filter spans by name, kind or model", value: this.state.query,
      oninput: () => {
        this.state.query = this.filter.value;
        this.draw();
      },
    });
    return h("div", { class: "hh-tools" }, this.filter, this.errors,
      this.toggleButton("Critical path", "critical", "Underline the spans that determine the total duration"), this.shown, h("span", { class: "hh-space" }),
      this.copyButton, this.pythonButton);
  }

  shownText() {
    const { spans } = this.trace;
    if (this.state.query || this.state.onlyErrors) return `${count(this.tree.rows.length)} of ${count(spans.length)} shown`;
    return spans.length > 300 ? `${plural(this.tree.rows.length, "row")} for ${count(spans.length)} spans` : "";
  }

  /** The selected span; of a fold the first one. @returns {Span} */
  get span() {
    return this.tree.rows[this.tree.index]?.span ?? this.trace.byId.get(this.state.selected ?? "") ?? this.trace.spans[0];
  }

  /** Copy the selected span, or with Shift all rows, as JSON. @param {MouseEvent | KeyboardEvent} event */
  async copy(event) {
    const { span } = this;
    const data = event.shiftKey ? this.trace.spans.map(plainRow)
      : { ...plainRow(span), ...(await this.kernel.details(span.id).catch(() => ({}))) };
    await copyText(JSON.stringify(data, null, 2), "JSON", this.copyButton, this.notice);
  }

  /** Copy Python code that fetches the selected span; the kernel writes it. */
  async copyPython() {
    const code = await this.kernel.python(this.span.id).catch(() => null);
    if (code) await copyText(code, "Python", this.pythonButton, this.notice);
  }

  /** Handle the keys of the view. None may reach the notebook, where `x` cuts the cell. @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey) return;
    event.stopPropagation();
    if (["INPUT", "TEXTAREA"].includes(/** @type {Element} */ (event.target).tagName)) {
      if (event.key === "Escape" || (event.key === "ArrowDown" && event.target === this.filter)) this.tree.list.focus();
      return;
    }
    /** @type {Record<string, () => void>} */
    const actions = {
      e: () => this.tree.nextError(), c: () => this.copy(event), C: () => this.copy(event), p: () => this.copyPython(),
      "/": () => this.filter.focus(), "?": () => this.toggleKeys(),
    };
    const action = actions[event.key];
    if (!action || !this.open || event.altKey) return;
    event.preventDefault();
    action();
  }
}
