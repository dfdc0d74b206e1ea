/**
 * The connection to the kernel, and the only module that knows the messages: display/hub.py lists them.
 *
 * Contents and actions are numbered requests with one reply each. Rows are requested by view: each view has at most one open
 * request, only a few are open in total, and visible views come first, because a kernel that runs cells must not have to
 * answer 200 requests at once.
 *
 * One clock serves all: while a reply is expected, it counts ticks. A busy page runs no ticks, so that messages which it has
 * not read yet do not count as missing.
 */

/** @import { Again, Cell, Details, Diff, Feedback, FromKernel, Header, Model, RowDetails, SearchReply, SpanDiff, ToKernel, Variant } from "./types.js" */

import { newCellBelow } from "./widgets.js";

const TICK_MS = 250;
/** After so many ticks without any message, the kernel does not respond. */
const MAX_SILENT_TICKS = 8;
const MAX_OPEN = 6;
/** Between two questions for a value that the kernel is still computing. */
const PENDING_MS = 300;
/** After so many ticks a request is sent again, then after twice as many: see `tick`. */
const RETRY_TICKS = 4;

/**
 * What the connection needs of the page, and reports to it.
 * @typedef {object} Page
 * @property {(view: string) => string | null} version of the rows that the page has
 * @property {(view: string) => boolean} isVisible
 * @property {(view: string, header: Header | null, buffers: DataView[]) => void} rows reply; no header: this kernel does not know the view
 * @property {(view: string) => void} changed its rows have changed
 * @property {(view: string, source: string, header: Header, buffers: DataView[]) => void} runningRows rows of a running cell with this code
 * @property {(view: string) => void} ended the running cell ended
 * @property {(view: string, span: string, variant: Variant, limit: {spent: string, raise: string}) => void} variant a call that was made again has ended
 * @property {() => void} unresponsive
 * @property {() => void} responsive the kernel responds again
 */

export class Kernel {
  /** @param {Model} model of anywidget @param {Page} page */
  constructor(model, page) {
    this.model = model;
    this.page = page;
    this.responds = true;
    /** A message has arrived, or another model was requested because none did. */
    this.heard = false;
    this.count = 0;
    /** @type {Map<number, {resolve: (value: any) => void, reject: (reason: Error) => void}>} numbered requests */
    this.pending = new Map();
    /** @type {Map<string, number>} views whose rows are to be requested, the first one first, with their number of retries */
    this.queued = new Map();
    /** @type {Map<string, {retries: number, ticks: number, changed: boolean}>} views whose rows are requested */
    this.open = new Map();
    /** Ticks since the last message. */
    this.silence = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.clock = undefined;
    /** @type {(message: FromKernel, buffers?: DataView[]) => void} */
    this.onMessage = (message, buffers) => this.receive(message, buffers ?? []);
  }

  start() {
    this.model.on("msg:custom", this.onMessage);
  }

  stop() {
    this.model.off("msg:custom", this.onMessage);
    this.open.clear();
    this.queued.clear();
    this.rejectAll("closed");
    this.stopClock();
  }

  // What the page asks.

  /** @type {(view: string, span: string) => Promise<Details | null>} */
  details(view, span) {
    return this.request({ type: "details", view, span });
  }

  /** Python code that fetches a span. @type {(view: string, span: string) => Promise<string | null>} */
  python(view, span) {
    return this.request({ type: "python", view, span });
  }

  /** What changed between two runs of a cell; null: the run before, and the one of the view. @type {(view: string, old: string | null, now: string | null) => Promise<Diff | null>} */
  diff(view, old, now) {
    return this.computed({ type: "diff", view, old, new: now });
  }

  /** What differs of a span. @type {(diff: string, row: number) => Promise<SpanDiff | null>} */
  diffSpan(diff, row) {
    return this.computed({ type: "diff_span", diff, row });
  }

  /** What rows show of the content of their spans, by id. @type {(view: string, spans: string[]) => Promise<Record<string, string> | null>} */
  previews(view, spans) {
    return this.request({ type: "previews", view, spans });
  }

  /** Count hits. @type {(view: string, text: string) => Promise<SearchReply | null>} */
  search(view, text) {
    return this.request({ type: "search", view, text });
  }

  /** Returns why feedback was not saved; empty if it was. @type {(view: string, span: string, given: Feedback) => Promise<string>} */
  feedback(view, span, given) {
    return this.request({ type: "feedback", view, span, given });
  }

  /** Whether there is no kernel: the data is in the page. */
  get offline() {
    return Boolean(this.model.offline);
  }

  /** A model call that is made again: see the table in display/hub.py. @param {string} view @returns {Again} */
  again(view) {
    return (span, action, values) => this.request({ type: "again", view, span, action, arguments: values });
  }

  /** Put code into a new cell below that of an element. Returns whether it could. @param {Element} element @param {string} code */
  newCell(element, code) {
    return newCellBelow(this.model.widget_manager, element, code);
  }

  /** Send or save the spans of a view. Returns a sentence about the outcome. @type {(type: "send" | "save", view: string) => Promise<string>} */
  act(type, view) {
    return this.request({ type, view });
  }

  /**
   * The numbers of a report's rows that match a query, sorted by a column, and what of the query was not understood.
   * @type {(view: string, query: string, key: string, down: boolean) => Promise<{numbers: Uint32Array, notes: string[]} | null>}
   */
  async order(view, query, key, down) {
    const answer = await this.request({ type: "order", view, query, key, down });
    if (!answer) return null;
    const [{ buffer, byteOffset, byteLength }] = answer.images;
    return { numbers: new Uint32Array(buffer.slice(byteOffset, byteOffset + byteLength)), notes: answer.notes };
  }

  /** The cells of some rows of a report. @type {(view: string, rows: number[]) => Promise<Cell[][] | null>} */
  cells(view, rows) {
    return this.request({ type: "page", view, rows });
  }

  /** Everything about a row of a report. @type {(view: string, row: number) => Promise<RowDetails | null>} */
  row(view, row) {
    return this.request({ type: "row", view, row });
  }

  /** Append a row to a dataset. Returns a sentence about the outcome. @type {(view: string, file: string) => Promise<string>} */
  addToDataset(view, file) {
    return this.request({ type: "dataset", view, file });
  }

  /** The kernel sends running views only to a visible page. */
  reportVisibility() {
    this.send({ type: "visibility", visible: !document.hidden });
  }

  /**
   * Request the rows of a view that is new or has changed. A view that changes during its open request is requested once more.
   * An unresponsive kernel gets a single request, which shows whether it is back.
   * @param {string} view
   */
  requestRows(view) {
    const open = this.open.get(view);
    if (open) open.changed = true;
    else if (!this.queued.has(view)) this.queued.set(view, 0);
    this.sendQueued();
  }

  /** @param {ToKernel} message @returns {Promise<any>} its reply */
  request(message) {
    this.count += 1;
    const number = this.count;
    return new Promise((resolve, reject) => {
      this.pending.set(number, { resolve, reject });
      this.send({ ...message, number });
      this.startClock();
    });
  }

  /** Request a value that may take the kernel a while, until it is there. @param {ToKernel} message @returns {Promise<any>} */
  async computed(message) {
    for (;;) {
      const value = await this.request(message);
      if (!value?.pending) return value;
      await new Promise((resolve) => setTimeout(resolve, PENDING_MS));
    }
  }

  sendQueued() {
    while (this.queued.size && this.open.size < (this.responds ? MAX_OPEN : 1)) {
      const views = [...this.queued.keys()];
      const view = views.find((one) => this.page.isVisible(one)) ?? views[0];
      this.open.set(view, { retries: this.queued.get(view) ?? 0, ticks: 0, changed: false });
      this.queued.delete(view);
      this.send({ type: "rows", view, have: this.page.version(view) });
    }
    this.startClock();
  }

  /** @param {ToKernel} message */
  send(message) {
    try {
      this.model.send(message);
    } catch {
      // The kernel is gone: no reply will come.
    }
  }

  // What the kernel replies.

  /** @param {FromKernel} message @param {DataView[]} buffers */
  receive(message, buffers) {
    this.silence = 0;
    this.heard = true;
    const { view, header } = message;
    if (!this.responds) {
      this.responds = true;
      this.page.responsive();
    }
    if (message.type === "answer") {
      // Not enumerable: JSON copies of the value contain no images, nor the numbers of rows.
      if (buffers.length) Object.defineProperty(message.value, "images", { value: buffers });
      this.pending.get(message.number)?.resolve(message.value);
      this.pending.delete(message.number);
    } else if (message.type === "rows") {
      if (this.open.get(view)?.changed) this.queued.set(view, 0);
      this.open.delete(view);
      this.page.rows(view, header, buffers);
    } else if (message.type === "changed") this.page.changed(view);
    else if (message.type === "running" && header) this.page.runningRows(view, message.source, header, buffers);
    else if (message.type === "ended") this.page.ended(view);
    else if (message.type === "variant") this.page.variant(view, message.span, message.variant, { spent: message.spent, raise: message.raise });
    this.sendQueued();
    if (!this.isWaiting) this.stopClock();
  }

  // Whether it replies.

  get isWaiting() {
    return this.open.size > 0 || this.pending.size > 0;
  }

  startClock() {
    if (this.isWaiting) this.clock ??= setTimeout(() => this.tick(), TICK_MS);
  }

  stopClock() {
    clearTimeout(this.clock);
    this.clock = undefined;
    this.silence = 0;
  }

  /**
   * Send again what waits for long. JupyterLab sends the first requests of a page to the kernel's main shell, where they wait
   * for the running cells, and later ones to a subshell: in a page whose next cell took 15 s, the rows arrived after 7.5 s
   * without this.
   */
  tick() {
    this.clock = undefined;
    this.silence += 1;
    if (this.silence > MAX_SILENT_TICKS) {
      this.giveUp();
      return;
    }
    for (const [view, open] of this.open) {
      open.ticks += 1;
      if (this.responds && open.ticks >= RETRY_TICKS * 2 ** open.retries) this.requeue(view);
    }
    this.sendQueued();
  }

  /**
   * The kernel does not respond. A reply that comes after all, or any other message, shows that it does again.
   *
   * A page that never received a message may still be able to send. anywidget (0.11) gives up a model for good if its start
   * takes 2 s, as in a page that computes for 2.5 s without a pause just then, and delivers no message to it. Another model
   * for the same kernel has better luck.
   */
  giveUp() {
    if (!this.heard) this.send({ type: "reopen" });
    this.heard = true;
    this.responds = false;
    this.stopClock();
    for (const view of this.open.keys()) this.requeue(view);
    this.rejectAll("no reply");
    this.page.unresponsive();
  }

  /** @param {string} view */
  requeue(view) {
    this.queued.set(view, (this.open.get(view)?.retries ?? 0) + 1);
    this.open.delete(view);
  }

  /** @param {string} reason */
  rejectAll(reason) {
    for (const { reject } of this.pending.values()) reject(new Error(reason));
    this.pending.clear();
  }
}
