/** One trace under one cell: summary bar, notices, toolbar, tree, detail pane, legend. */

/** @import { Kernel } from "./kernel.js" */
/** @import { Header, Row, Span, State, Trace } from "./types.js" */

import { RunAgain } from "./again.js";
import { Detail } from "./detail.js";
import { DiffView, newDiffState } from "./diff.js";
import { copyText, count, duration, focusOn, h, NO_ANSWER, plural, redraw } from "./dom.js";
import { Search } from "./search.js";
import { legendItems, noticeRow, raisedRow, summaryBar } from "./summary.js";
import { decode, grow, plainRow, selectedSpan } from "./trace.js";
import { paintLanes, Tree } from "./tree.js";

/** State that survives redraws and new outputs of the same view. */
export const newState = () => /** @type {State} */ ({
  open: null, selected: null, chosen: false, first: null, tab: null, toggled: new Map(), query: "", onlyErrors: null, critical: true, keys: false, again: null,
  diff: newDiffState(),
  hits: null, all: false, wide: false,
});

/** Heights in pixels around the list and the details, when the view fills the screen. */
const AROUND_LIST = 210;
const AROUND_DETAILS = 150;

export class View {
  /**
   * @param {string} id of the kernel
   * @param {string} uid unique in the page: a cell may be shown twice
   * @param {State} state shared by all views of this id
   * @param {Pick<Kernel, "details" | "python" | "act" | "diff" | "diffSpan" | "previews" | "search" | "feedback" | "again" | "newCell" | "offline">} kernel
   */
  constructor(id, uid, state, kernel) {
    this.id = id;
    this.uid = uid;
    this.state = state;
    this.kernel = kernel;
    /** The deepest error was shown: the next jump goes to the next error. */
    this.jumped = false;
    /** @type {Element | null} the element that had the focus, while it can be restored */
    this.lastFocus = null;
    /** @type {Header} from the first update on */
    this.header = /** @type {any} */ (undefined);
    /** @type {Trace} from then on */
    this.trace = /** @type {any} */ (undefined);
    /** @type {DiffView | null} what changed, while it is shown in place of the tree */
    this.diff = null;
    /** @type {DataView[] | undefined} what the trace was decoded from */
    this.buffers = undefined;
    this.tree = new Tree(uid, state, {
      select: (/** @type {Row} */ row) => {
        this.state.tab = null;
        this.state.chosen = true;
        this.detail.show(row);
      },
      enter: () => this.detail.enter(), refilter: () => this.draw(), previews: (spans) => this.released(kernel.previews(id, spans)),
    });
    this.detail = new Detail(uid, state, {
      fetch: (span) => kernel.details(id, span), give: (span, given) => kernel.feedback(id, span, given), leave: () => this.leave(),
      wide: () => this.toggleWide(), full: () => this.toggleFull(), again: kernel.offline ? null : (span) => this.runAgain(span),
    });
    this.search = new Search(state, { has: (span) => this.trace.byId.has(span), fetch: (text) => this.released(kernel.search(id, text)), changed: (answered) => this.searched(answered), step: (by) => this.step(by) });
    /** @type {HTMLDialogElement | null} what the view is in while it fills the screen */
    this.dialog = null;
    /** @type {Promise<void> | null} until the pointer is released, while it is pressed on the view */
    this.pressed = null;
    /** @type {RunAgain | null} from the first use on */
    this.again = null;
    this.bar = h("div", { class: "hh-bar" });
    this.notices = h("div", { class: "hh-notices" });
    this.body = h("div", { class: "hh-body", id: `${uid}-body` });
    this.element = h("div", {
      class: "hh-view", role: "region", onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event), onpointerdown: () => this.press(),
      onfocusin: (/** @type {FocusEvent} */ event) => (this.lastFocus = /** @type {Element} */ (event.target)),
      // Removal and leaving both fire focusout: only later is the element still connected or not.
      onfocusout: () => setTimeout(() => {
        if (this.element.isConnected && !this.element.contains(document.activeElement)) this.lastFocus = null;
      }),
    }, this.bar, this.notices, this.body);
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
    this.actions = h("span", { class: "hh-end" }, this.copyButton, this.pythonButton);
    this.tools = this.toolbar();
  }

  /**
   * Show new data of the kernel, preserving selection and focus.
   * @param {Header} header @param {DataView[]} buffers the same object as before if the rows have not changed
   */
  update(header, buffers) {
    if (this.pressed) {
      this.pressed.then(() => this.update(header, buffers));
      return;
    }
    this.header = header;
    if (buffers !== this.buffers) {
      this.buffers = buffers;
      this.trace = decode(header, buffers);
      this.detail.clearCache();
      if (this.state.query) this.search.later();
      if (this.state.first && !this.trace.byId.has(this.state.first)) this.reset();
      this.state.first = this.trace.spans[0].id;
      this.diff?.load();
    }
    this.state.onlyErrors ??= header.errors_only;
    this.errors.setAttribute("aria-pressed", String(this.state.onlyErrors));
    const moved = this.preselect();
    this.placeButtons();
    this.element.setAttribute("aria-label", `Trace: ${header.title}, ${plural(this.trace.spans.length, "span")}, ${header.file ? "file" : "cell"} ${header.file ?? header.label}`);
    this.drawBar();
    this.draw();
    // The list has no height before the element is in the page.
    if (moved) requestAnimationFrame(() => this.tree.list.reveal());
  }

  /** Draw nothing anew until the pointer is released and its click has been handled: an element that is replaced gets none. */
  press() {
    const ends = ["pointerup", "pointercancel", "contextmenu"];
    this.pressed ??= new Promise((resolve) => {
      const release = () => {
        for (const end of ends) removeEventListener(end, release, true);
        setTimeout(() => {
          this.pressed = null;
          resolve();
        });
      };
      for (const end of ends) addEventListener(end, release, true);
    });
  }

  /** An answer of the kernel, when it may be drawn. @template T @param {Promise<T>} answer */
  async released(answer) {
    const found = await answer;
    await this.pressed;
    return found;
  }

  /**
   * Move into another place of the page. Scroll positions and the focus, which are lost when an element moves, are restored;
   * the focus was lost earlier if the place where the view stood was removed.
   * @param {Element} place
   */
  moveTo(place) {
    const { activeElement } = document;
    const focus = this.element.contains(activeElement) ? activeElement : activeElement === document.body ? this.lastFocus : null;
    const scrolled = [this.tree.list.element, this.detail.element].map((element) => ({ element, top: element.scrollTop }));
    place.append(this.dialog ?? this.element);
    if (this.dialog) { // A dialog that moves is no longer modal.
      this.dialog.close();
      this.dialog.showModal();
    }
    for (const { element, top } of scrolled) if (top) element.scrollTop = top;
    focusOn(focus, true);
  }

  /** Take the view out of the page. */
  remove() {
    (this.dialog ?? this.element).remove();
    this.endFull();
  }

  /** Fill the screen, or return to the place in the page: outputs clip whatever is fixed in them, but not a modal dialog. */
  toggleFull() {
    const focus = document.activeElement;
    if (this.dialog) this.endFull();
    else {
      this.dialog = h("dialog", {
        class: "hh-full", "aria-label": this.element.getAttribute("aria-label"), oncancel: (/** @type {Event} */ event) => {
          event.preventDefault();
          this.toggleFull();
        },
      });
      this.element.before(this.dialog);
      this.dialog.append(this.element);
      this.dialog.showModal();
    }
    this.draw();
    this.detail.redraw();
    this.tree.list.reveal();
    if (focus instanceof HTMLElement && this.element.contains(focus)) focusOn(focus, true);
    else focusOn(this.element.querySelector("[data-focus=full]") ?? this.tree.list.element, true);
  }

  endFull() {
    const { dialog } = this;
    this.dialog = null;
    dialog?.close();
    dialog?.replaceWith(this.element);
  }

  toggleWide() {
    this.state.wide = !this.state.wide;
    this.draw();
  }

  /** From the details back to the tree; a single span has none. */
  leave() {
    if (this.single && this.dialog) this.toggleFull();
    else this.tree.list.focus();
  }

  /** @param {boolean} dark */
  setTheme(dark) {
    this.element.dataset.theme = dark ? "dark" : "light";
    this.paintLanes();
  }

  /** A single span has no tree, toolbar and legend. */
  get single() {
    return this.trace.spans.length === 1;
  }

  /** The buttons of the toolbar; without one they are beside the span's name. */
  placeButtons() {
    const buttons = [this.copyButton, this.pythonButton];
    if (this.single) this.detail.buttons = buttons;
    else if (this.detail.buttons.length) {
      this.detail.buttons = [];
      this.actions.append(...buttons);
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
    this.closeAgain();
    this.state.again = null;
    this.jumped = false;
    this.state.diff = newDiffState();
    this.diff = null;
  }

  /**
   * Select the deepest error, else the last model call, else the root. What the user selected stays, and so does the row of
   * an open view: only an error moves it. Returns whether the selection changed.
   */
  preselect() {
    const { header, state, trace } = this;
    if (selectedSpan(trace, state) && (state.chosen || (this.open && !header.errors))) return false;
    const before = state.selected;
    const calls = trace.spans.filter((span) => span.kind === "llm" && !span.repeats);
    state.selected = header.selected ?? (calls[calls.length - 1] ?? trace.spans[0]).id;
    state.chosen = false;
    return state.selected !== before;
  }

  drawBar() {
    redraw(this.bar, ...summaryBar({ ...this.header, facts: this.diff?.facts ?? this.header.facts }, {
      open: this.open, body: this.body.id, spark: this.trace.spans.length > 2, diff: this.comparing, sign: this.diff?.sign ?? "",
      toggle: () => this.toggle(), jump: () => this.jump(), compare: () => this.compare(),
    }));
    const { raised, notice, can_send: canSend } = this.header;
    redraw(this.notices, raised ? raisedRow(raised) : "", notice ? noticeRow(notice, canSend, (type) => this.act(type)) : "");
    this.paintLanes();
  }

  /** Extend running spans and the duration in the bar. @param {number} elapsed milliseconds since the trace's start */
  grow(elapsed) {
    if (this.pressed) return;
    grow(this.trace, elapsed);
    const time = this.bar.querySelector(".hh-duration");
    if (time) time.textContent = duration(this.trace.end);
    if (this.open) this.tree.update(this.trace);
    this.paintLanes();
  }

  /** Paint strip and minimap in the colors of the theme. */
  paintLanes() {
    const canvas = this.bar.querySelector("canvas");
    if (canvas) paintLanes(canvas, this.trace);
    this.tree.paintMinimap();
  }

  draw() {
    this.bar.querySelector("[aria-expanded]")?.setAttribute("aria-expanded", String(this.open));
    this.body.hidden = !this.open;
    this.element.classList.toggle("hh-one", this.single && !this.comparing);
    if (!this.open) return;
    if (this.comparing) {
      this.drawDiff();
      return;
    }
    if (this.main.parentElement !== this.body) this.body.replaceChildren(this.tools, this.main, this.legend);
    this.main.classList.toggle("hh-wide", this.state.wide);
    this.tree.list.owner.most = this.dialog ? Math.max(200, innerHeight - AROUND_LIST) : undefined;
    this.tree.update(this.trace);
    this.main.style.setProperty("--hh-list", `${this.dialog ? innerHeight - AROUND_DETAILS : this.tree.height}px`);
    this.shown.textContent = this.shownText();
    this.drawLegend();
    const row = this.single ? undefined : this.tree.list.selected;
    this.detail.show(row ?? { items: null, span: this.span });
    const edited = this.state.again?.open && !this.again && this.trace.byId.get(this.state.again.span);
    if (edited) this.runAgain(edited, false);
  }

  /** Show the request of a model call for editing, in place of tree and details. @param {Span} span */
  runAgain(span, focus = true) {
    if (span.kind !== "llm" || this.kernel.offline) return;
    if (!this.open) this.toggle();
    this.again ??= new RunAgain(this.uid, this.state, {
      ask: this.kernel.again(this.id), close: () => this.closeAgain(), newCell: (code) => this.kernel.newCell(this.element, code),
      give: (variant, given) => this.kernel.feedback(this.id, variant, given),
    });
    this.body.append(this.again.element);
    this.element.classList.add("hh-editing");
    this.again.open(span, focus);
  }

  /** Show the trace again; the draft is kept. */
  closeAgain() {
    if (!this.again) return;
    if (this.state.again) this.state.again.open = false;
    this.element.classList.remove("hh-editing");
    this.again.element.remove();
    this.again = null;
    if (!this.open) return;
    this.tree.update(this.trace);
    if (this.single) this.detail.enter();
    else this.tree.list.focus();
  }

  /** Whether what changed is shown: by the user's choice, else by the kernel's. */
  get comparing() {
    return this.state.diff.open ?? Boolean(this.header.diff);
  }

  /** Show what changed since the run before, or the trace again. */
  compare() {
    const shown = this.open && this.comparing;
    const inBody = this.body.contains(document.activeElement);
    this.state.diff.open = !shown;
    this.state.open = true;
    if (shown) this.diff = null;
    this.drawBar();
    this.draw();
    if (shown) this.tree.list.reveal();
    if (shown && inBody) this.tree.list.focus();
  }

  drawDiff() {
    if (this.diff) return;
    const diff = new DiffView(this.uid, this.state.diff, {
      fetch: (old, now) => this.kernel.diff(this.id, old, now), texts: (id, row) => this.kernel.diffSpan(id, row),
      changed: () => {
        if (this.diff === diff) this.drawBar();
      },
      close: () => this.compare(),
    });
    this.diff = diff;
    const focused = this.body.contains(document.activeElement);
    this.body.replaceChildren(diff.element);
    if (focused) focusOn(diff.element);
    diff.load().then(() => document.activeElement === diff.element && diff.list.focus());
  }

  drawLegend() {
    redraw(this.legend, ...legendItems(this.uid, this.trace, this.state, () => this.toggleKeys()));
  }

  toggleKeys() {
    this.state.keys = !this.state.keys;
    this.drawLegend();
  }

  toggle() {
    this.state.open = !this.open;
    this.draw();
    if (this.open) this.tree.list.reveal();
  }

  /** Go to the deepest error first, then to the next ones. */
  jump() {
    if (!this.open) this.toggle();
    if (this.comparing) this.compare();
    if (this.single) return;
    const origin = this.trace.byId.get(this.header.selected ?? "");
    if (origin && !this.jumped) this.tree.goTo(origin);
    else this.tree.nextError();
    this.jumped = true;
    this.tree.list.focus();
  }

  /** Run the action of a notice button and show the kernel's sentence about the outcome. @param {"send" | "save"} type */
  async act(type) {
    let text = NO_ANSWER;
    try {
      text = await this.kernel.act(type, this.id);
    } catch {
      // The text says it.
    }
    const reply = this.notices.querySelector(".hh-reply");
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
    return h("div", { class: "hh-tools" }, this.search.field, h("span", { class: "hh-item" }, this.shown, this.search.arrows), this.errors,
      this.toggleButton("Critical path", "critical", "Underline the spans that determine the total duration"), this.actions);
  }

  shownText() {
    const { spans } = this.trace;
    const found = this.search.text(spans.length, this.tree.list.rows.length);
    if (found) return found;
    if (this.state.onlyErrors) return `${count(this.tree.list.rows.length)} of ${count(spans.length)} shown`;
    return spans.length > 300 ? `${plural(this.tree.list.rows.length, "row")} for ${count(spans.length)} spans` : "";
  }

  /** Other spans match the search. The first one with a hit is selected, unless the selected one has some. @param {boolean} answered the kernel has answered the first time */
  searched(answered) {
    if (!this.open) return;
    const { hits } = this.state;
    const first = answered && hits && !hits.get(this.span.id) && this.trace.spans.find(({ id }) => hits.get(id));
    if (answered) this.state.tab = null;
    this.draw();
    if (first) this.tree.goTo(first);
  }

  /** Go to the next hit, or the one before; to that of another span after the last one of this. @param {number} by 1 or -1 */
  step(by) {
    if (this.detail.step(by)) return;
    const { hits } = this.state;
    const found = this.trace.spans.filter(({ id }) => hits?.get(id));
    if (!found.length) return;
    if (by < 0) found.reverse();
    const { order } = this.span;
    const next = found.find((span) => (span.order - order) * by > 0) ?? found[0];
    this.detail.landing = by;
    if (next === this.span) this.detail.land();
    else this.tree.goTo(next);
  }

  /** The selected span; of a fold the first one. */
  get span() {
    return selectedSpan(this.trace, this.state) ?? this.trace.spans[0];
  }

  /** Copy the selected span, or with Shift all rows, as JSON. @param {MouseEvent | KeyboardEvent} event */
  async copy(event) {
    const { span } = this;
    const data = event.shiftKey ? this.trace.spans.map(plainRow)
      : { ...plainRow(span), ...(await this.kernel.details(this.id, span.id).catch(() => ({}))) };
    await copyText(JSON.stringify(data, null, 2), "JSON", this.copyButton, this.notices);
  }

  /** Copy Python code that fetches the selected span; the kernel writes it. */
  async copyPython() {
    const code = await this.kernel.python(this.id, this.span.id).catch(() => null);
    if (code) await copyText(code, "Python", this.pythonButton, this.notices);
  }

  /** Handle the keys of the view. None may reach the notebook, where `x` cuts the cell. @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey) return;
    event.stopPropagation();
    if (["INPUT", "TEXTAREA", "SELECT"].includes(/** @type {Element} */ (event.target).tagName)) {
      if (event.key === "Escape") event.preventDefault(); // It would leave the whole screen.
      if (event.key === "Escape" || (event.key === "ArrowDown" && event.target === this.search.field)) (this.diff ?? this.tree).list.focus();
      return;
    }
    if (event.key === "d" && !event.altKey) {
      event.preventDefault();
      this.compare();
      return;
    }
    if (this.diff) {
      if (!event.altKey && this.open && this.diff.key(event)) event.preventDefault();
      return;
    }
    /** @type {Record<string, () => void>} */
    const actions = {
      e: () => this.tree.nextError(), c: () => this.copy(event), C: () => this.copy(event), p: () => this.copyPython(),
      w: () => this.toggleWide(), f: () => this.toggleFull(), "+": () => this.detail.rate("good"), "-": () => this.detail.rate("bad"),
      r: () => this.runAgain(this.span), "/": () => this.search.field.focus(), "?": () => this.toggleKeys(),
    };
    const action = actions[event.key];
    if (!action || !this.open || event.altKey) return;
    event.preventDefault();
    action();
  }
}
