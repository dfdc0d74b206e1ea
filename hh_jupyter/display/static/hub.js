/**
 * The hub: one model per kernel, never displayed. It finds the static outputs of its kernel in the page and puts the
 * interactive view in their place while the kernel answers. Messages are described in display/hub.py.
 */

/** @import { FromKernel, Header, Model, Rows, State } from "./types.js" */

import { focusOn, h } from "./dom.js";
import { Kernel } from "./kernel.js";
import { idOf, outputsOf, says, Sights } from "./outputs.js";
import { RunningViews } from "./running.js";
import { followTheme, isDark } from "./theme.js";
import { newState, View } from "./view.js";

const MOST_DETACHED = 100;
let serial = 0;

class Hub {
  /** @param {Model} model of anywidget @param {Element | null} own the one output that is looked after; null: all of the page */
  constructor(model, own) {
    this.model = model;
    this.own = own;
    /** @type {Map<Element, {id: string, view: View}>} mounted views by the output that holds them */
    this.mounted = new Map();
    /** @type {Map<string, Rows>} the last rows of each view */
    this.rows = new Map();
    /** @type {Map<string, State>} */
    this.states = new Map();
    this.running = new RunningViews();
    /** @type {Set<string>} views of which this kernel knows nothing */
    this.foreign = new Set();
    this.sights = new Sights();
    /** The kernel says nothing: what the outputs say by themselves is shown. */
    this.away = false;
    this.kernel = new Kernel(model, {
      told: {
        rows: (message, buffers) => this.take(message, buffers),
        changed: ({ view }) => this.refresh(view),
        running: (message, buffers) => this.run(message, buffers),
        ended: ({ view }) => this.running.ending(view),
      },
      silent: () => this.restoreAll(),
      heard: () => this.away && this.back(),
      version: (view) => this.rows.get(view)?.header.version ?? null,
      inSight: (view) => this.sights.views.has(view),
    });
    this.unfollow = () => {};
    this.observer = new MutationObserver((records) => this.changed(records));
    this.onGone = () => this.probe();
    this.onSight = () => this.sight();
    this.onToggle = (/** @type {any} */ { target }) => target.open && this.found(target);
  }

  start() {
    this.kernel.start();
    this.model.on("comm_live_update", this.onGone);
    if (!this.own) {
      this.observer.observe(document.body, { childList: true, subtree: true });
      document.addEventListener("visibilitychange", this.onSight);
      this.sight();
    }
    this.unfollow = followTheme(() => this.theme());
    document.addEventListener("toggle", this.onToggle, true); // It does not bubble.
    this.found(this.own ?? document.body);
  }

  stop() {
    document.removeEventListener("toggle", this.onToggle, true);
    document.removeEventListener("visibilitychange", this.onSight);
    this.model.off("comm_live_update", this.onGone);
    this.observer.disconnect();
    this.sights.stop();
    this.unfollow();
    this.kernel.stop();
    this.running.stop();
    this.restoreAll();
  }

  /** What runs is only told to a page that somebody sees. */
  sight() {
    this.kernel.send({ type: "sight", visible: !document.hidden });
  }

  /** Look for outputs in what was added; our own drawing is not looked at. @param {MutationRecord[]} records */
  changed(records) {
    for (const { target, addedNodes } of records) {
      if (target instanceof Element && target.closest(".hh-view")) continue;
      for (const node of addedNodes) if (node instanceof Element) this.found(node);
    }
  }

  /** @param {Element} root */
  found(root) {
    const outputs = root === this.own || root.matches(".hh-output") ? [root] : root.querySelectorAll(".hh-output");
    for (const output of outputs) {
      const id = idOf(output);
      // One inside of something folded is asked for when that opens: a table of many must not ask for all of them.
      if (output.parentElement?.closest("details:not([open])")) continue;
      if (!id || this.foreign.has(id) || this.mounted.has(output)) continue;
      if (output.classList.contains("hh-live")) {
        this.kernel.ask(id); // Another hub was faster. Its kernel may be a dead one: the answer of ours decides.
        continue;
      }
      const rows = this.rows.get(id);
      // Under a cell that ran again there are other spans than those we know: until they come its own text is shown.
      if (rows && !this.away && says(output, rows.header)) this.mount(output, id, rows);
      else this.running.hide(id);
      this.sights.watch(output);
      this.kernel.ask(id);
    }
  }

  /**
   * Rows of a view, or the word that it is not ours. An answer that comes late brings the view back.
   * @param {FromKernel} message @param {DataView[]} buffers
   */
  take({ view: id, header }, buffers) {
    if (!header) {
      this.foreign.add(id);
      return;
    }
    const rows = this.keep(id, header, buffers);
    for (const output of this.outputsOf(id)) {
      const mounted = this.mounted.get(output);
      if (mounted) mounted.view.update(header, rows.buffers);
      else if (rows.buffers.length && (!output.classList.contains("hh-live") || says(output, header))) {
        // Held by the hub of a kernel that was restarted: it cannot answer, this one's kernel just did.
        output.dispatchEvent(new CustomEvent("hh-release"));
        this.mount(output, id, rows);
      }
    }
  }

  /** A cell runs: its spans so far. @param {FromKernel} message @param {DataView[]} buffers */
  run({ view: id, source, header }, buffers) {
    if (!header) return;
    this.running.update(id, source, () => this.create(id), header, this.keep(id, header, buffers).buffers);
    this.themed(/** @type {View} */ (this.running.get(id)));
  }

  /**
   * The last rows of a view; without new ones the old ones stand.
   * @param {string} id @param {Header} header @param {DataView[]} buffers
   */
  keep(id, header, buffers) {
    const before = this.rows.get(id);
    // What describes the columns came with them.
    const rows = buffers.length || !before ? { header, buffers } : { header: { ...before.header, ...header }, buffers: before.buffers };
    this.rows.set(id, rows);
    return rows;
  }

  /** @param {string} id */
  refresh(id) {
    this.foreign.delete(id);
    if (this.rows.has(id) || this.outputsOf(id).length) this.kernel.ask(id);
  }

  /** @param {Element} output @param {string} id @param {Rows} rows */
  mount(output, id, rows) {
    const view = this.freed(id) ?? this.create(id);
    const { activeElement } = document;
    // Moving takes the focus, and so did the removal of the output that the view was in.
    const focus = view.element.contains(activeElement) ? activeElement : activeElement === document.body ? view.lastFocus : null;
    this.running.end(id);
    this.themed(view);
    output.append(view.element);
    output.classList.add("hh-live");
    this.mounted.set(output, { id, view });
    output.addEventListener("hh-release", () => this.mounted.has(output) && this.restore(output), { once: true });
    view.update(rows.header, rows.buffers);
    focusOn(focus, true);
    this.prune();
  }

  /**
   * The view that showed this until now and has lost its place: the cell has ended, or its output was replaced.
   * @param {string} id
   */
  freed(id) {
    const orphan = [...this.mounted].find(([old, entry]) => entry.id === id && !old.isConnected);
    if (orphan) this.mounted.delete(orphan[0]);
    return this.running.get(id) ?? orphan?.[1].view;
  }

  /** @param {string} id */
  create(id) {
    const state = this.states.get(id) ?? newState();
    this.states.set(id, state);
    serial += 1;
    const view = new View(`hh-${serial}`, state, {
      details: (span) => this.kernel.request({ type: "details", view: id, span }),
      python: (span) => this.kernel.request({ type: "python", view: id, span }),
      act: (type) => this.kernel.request({ type, view: id }),
    });
    // An update of the output replaces its nodes; the view moves over, and what had the focus gets it back. Removal takes
    // the focus like leaving does: only a moment later it shows which of the two it was.
    const { element } = view;
    element.addEventListener("focusin", (event) => (view.lastFocus = /** @type {Element} */ (event.target)));
    element.addEventListener("focusout", () => setTimeout(() => {
      if (element.isConnected && !element.contains(document.activeElement)) view.lastFocus = null;
    }));
    return view;
  }

  /** Outputs out of sight leave the page and come back; only the oldest of many are given up. */
  prune() {
    const gone = [...this.mounted.keys()].filter((output) => !output.isConnected);
    for (const output of gone.slice(0, Math.max(0, gone.length - MOST_DETACHED))) this.restore(output);
  }

  /** @param {Element} output */
  restore(output) {
    this.mounted.get(output)?.view.element.remove();
    this.mounted.delete(output);
    output.classList.remove("hh-live");
  }

  /** The kernel is not there: what the outputs say by themselves is shown again. */
  restoreAll() {
    if (this.own) return;
    this.away = this.mounted.size > 0 || this.away;
    for (const output of [...this.mounted.keys()]) this.restore(output);
  }

  /** It answers after all, late: the interactive views are shown again. */
  back() {
    this.away = false;
    for (const [id, rows] of this.rows) {
      for (const output of this.outputsOf(id)) if (!output.classList.contains("hh-live")) this.mount(output, id, rows);
    }
  }

  /** The connection changed: does the kernel still answer? */
  probe() {
    const [first] = this.mounted.values();
    if (first) this.kernel.ask(first.id);
  }

  /** @param {string} id */
  outputsOf = (id) => (this.own ? [this.own] : outputsOf(id));

  theme() {
    const views = [...this.mounted.values()].map(({ view }) => view);
    for (const view of [...views, ...this.running.views()]) {
      this.themed(view);
      view.spark();
    }
  }

  /** @param {View} view */
  themed(view) {
    view.element.dataset.theme = isDark() ? "dark" : "light";
  }
}

/** A hub that works until the function that it gives is called. @param {Model} model @param {Element | null} own */
function begin(model, own) {
  const hub = new Hub(model, own);
  hub.start();
  return () => hub.stop();
}

/** The hub's entry point: called once per page. A view that is displayed as a widget of its own looks after itself. */
const initialize = (/** @type {{model: Model}} */ { model }) => (model.get("view_id") ? undefined : begin(model, null));

/** The entry point of a displayed widget: one view, in the widget's element. @param {{model: Model, el: Element}} context */
function render({ model, el }) {
  const output = h("div", { class: "hh-own", id: model.get("view_id") });
  el.append(output);
  return begin(model, output);
}

export default { initialize, render };
