/**
 * The hub: one model per kernel, never displayed. It finds the static outputs of its kernel in the page and replaces them by
 * interactive views while the kernel responds. display/hub.py describes the messages.
 */

/** @import { FromKernel, Header, Model, Rows, State } from "./types.js" */

import { focusOn, h } from "./dom.js";
import { Kernel } from "./kernel.js";
import { idOf, isBoxed, outputsOf, shows, VisibleOutputs } from "./outputs.js";
import { Boxes, keepOutOfFiles } from "./widgets.js";
import { RunningViews } from "./running.js";
import { followTheme, isDark } from "./theme.js";
import { newState, View } from "./view.js";

const MAX_DETACHED = 100;
let viewCount = 0;

class Hub {
  /** @param {Model} model of anywidget @param {Element | null} own the only output to manage; null: all outputs of the page */
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
    this.boxes = new Boxes(model.widget_manager);
    /** @type {Set<string>} views that this kernel does not know */
    this.foreign = new Set();
    this.visible = new VisibleOutputs();
    /** The kernel does not respond: the static outputs are shown. */
    this.disconnected = false;
    this.kernel = new Kernel(model, {
      handlers: {
        rows: (message, buffers) => this.receiveRows(message, buffers),
        changed: ({ view }) => this.refresh(view),
        running: (message, buffers) => this.receiveRunning(message, buffers),
        ended: ({ view }) => this.running.ending(view),
      },
      unresponsive: () => this.restoreAll(),
      responsive: () => this.disconnected && this.remountAll(),
      version: (view) => this.rows.get(view)?.header.version ?? null,
      isVisible: (view) => this.visible.views.has(view),
    });
    this.unfollowTheme = () => {};
    this.observer = new MutationObserver((records) => this.changed(records));
    this.onConnectionChange = () => {
      setTimeout(() => this.boxes.removeDead()); // The manager disconnects one model after the other.
      this.probe();
    };
    this.onVisibility = () => this.reportVisibility();
    this.onToggle = (/** @type {any} */ { target }) => target.open && this.findOutputs(target);
  }

  start() {
    this.kernel.start();
    this.model.on("comm_live_update", this.onConnectionChange);
    if (!this.own) {
      this.observer.observe(document.body, { childList: true, subtree: true });
      document.addEventListener("visibilitychange", this.onVisibility);
      this.reportVisibility();
    }
    this.unfollowTheme = followTheme(() => this.applyTheme());
    document.addEventListener("toggle", this.onToggle, true); // It does not bubble.
    this.findOutputs(this.own ?? document.body);
  }

  stop() {
    document.removeEventListener("toggle", this.onToggle, true);
    document.removeEventListener("visibilitychange", this.onVisibility);
    this.model.off("comm_live_update", this.onConnectionChange);
    this.observer.disconnect();
    this.visible.stop();
    this.unfollowTheme();
    this.kernel.stop();
    this.running.stop();
    this.boxes.stop();
    this.restoreAll();
  }

  /** The kernel sends running views only to a visible page. */
  reportVisibility() {
    this.kernel.send({ type: "visibility", visible: !document.hidden });
  }

  /** Look for outputs in added nodes, except in those of our own views. @param {MutationRecord[]} records */
  changed(records) {
    for (const { target, addedNodes } of records) {
      if (target instanceof Element && target.closest(".hh-view")) continue;
      for (const node of addedNodes) if (node instanceof Element) this.findOutputs(node);
    }
  }

  /** @param {Element} root */
  findOutputs(root) {
    const outputs = root === this.own || root.matches(".hh-output") ? [root] : root.querySelectorAll(".hh-output");
    for (const output of outputs) {
      const id = idOf(output);
      if (output.classList.contains("hh-box")) this.boxes.show(output, id);
      if (isBoxed(output) && !this.own) continue;
      // Outputs in a folded element are requested when it opens: a table would otherwise request all its rows.
      if (output.parentElement?.closest("details:not([open])")) continue;
      if (!id || this.foreign.has(id) || this.mounted.has(output)) continue;
      if (output.classList.contains("hh-live")) {
        this.kernel.requestRows(id); // Another hub was faster. Its kernel may be dead: our kernel's reply decides.
        continue;
      }
      const rows = this.rows.get(id);
      // The view of the running cell becomes that of its output. A cell that ran again has new spans: show its static text
      // until they arrive.
      if (rows && !this.disconnected && (this.running.get(id) || shows(output, rows.header))) this.mount(output, id, rows);
      else this.running.hide(id);
      this.visible.watch(output);
      this.kernel.requestRows(id);
    }
  }

  /**
   * Receive the rows of a view, or no header if the kernel does not know it. A late reply mounts the view again.
   * @param {FromKernel} message @param {DataView[]} buffers
   */
  receiveRows({ view: id, header }, buffers) {
    if (!header) {
      this.foreign.add(id);
      for (const output of this.outputsOf(id)) if (this.mounted.has(output)) this.restore(output);
      return;
    }
    const rows = this.storeRows(id, header, buffers);
    for (const output of this.outputsOf(id)) {
      const mounted = this.mounted.get(output);
      if (mounted) mounted.view.update(header, rows.buffers);
      else if (rows.buffers.length && (!output.classList.contains("hh-live") || shows(output, header))) {
        // Held by the hub of a kernel that was restarted and cannot reply; our kernel just did.
        output.dispatchEvent(new CustomEvent("hh-release"));
        this.mount(output, id, rows);
      }
    }
  }

  /** Receive the spans so far of a running cell. @param {FromKernel} message @param {DataView[]} buffers */
  receiveRunning({ view: id, source, header }, buffers) {
    if (!header) return;
    this.running.update(id, source, () => this.create(id), header, this.storeRows(id, header, buffers).buffers);
    this.setTheme(/** @type {View} */ (this.running.get(id)));
  }

  /**
   * Store and return the last rows of a view. Without new columns the previous ones stay.
   * @param {string} id @param {Header} header @param {DataView[]} buffers
   */
  storeRows(id, header, buffers) {
    const before = this.rows.get(id);
    // The previous header describes the previous columns.
    const rows = buffers.length || !before ? { header, buffers } : { header: { ...before.header, ...header }, buffers: before.buffers };
    this.rows.set(id, rows);
    return rows;
  }

  /** @param {string} id */
  refresh(id) {
    this.foreign.delete(id);
    if (this.rows.has(id) || this.outputsOf(id).length) this.kernel.requestRows(id);
  }

  /** @param {Element} output @param {string} id @param {Rows} rows */
  mount(output, id, rows) {
    const view = this.takeDetachedView(id) ?? this.create(id);
    const { activeElement } = document;
    // The focus is lost when the view moves, and was lost when its previous output was removed.
    const focus = view.element.contains(activeElement) ? activeElement : activeElement === document.body ? view.lastFocus : null;
    const scrolled = [view.tree.list, view.detail.element].map((element) => ({ element, top: element.scrollTop }));
    this.setTheme(view);
    output.append(view.element);
    output.classList.add("hh-live");
    this.running.end(id);
    for (const { element, top } of scrolled) element.scrollTop = top;
    this.mounted.set(output, { id, view });
    output.addEventListener("hh-release", () => this.mounted.has(output) && this.restore(output), { once: true });
    view.update(rows.header, rows.buffers);
    focusOn(focus, true);
    this.prune();
  }

  /**
   * Return the view that showed this id until the cell ended or its output was replaced.
   * @param {string} id
   */
  takeDetachedView(id) {
    const orphan = [...this.mounted].find(([old, entry]) => entry.id === id && !old.isConnected);
    if (orphan) this.mounted.delete(orphan[0]);
    return this.running.get(id) ?? orphan?.[1].view;
  }

  /** @param {string} id */
  create(id) {
    const state = this.states.get(id) ?? newState();
    this.states.set(id, state);
    viewCount += 1;
    const view = new View(`hh-${viewCount}`, state, {
      details: (span) => this.kernel.request({ type: "details", view: id, span }),
      python: (span) => this.kernel.request({ type: "python", view: id, span }),
      act: (type) => this.kernel.request({ type, view: id }),
    });
    // An update replaces the nodes of an output; the view moves and the focused element gets the focus back. Removal and
    // leaving both fire focusout: only later is the element still connected or not.
    const { element } = view;
    element.addEventListener("focusin", (event) => (view.lastFocus = /** @type {Element} */ (event.target)));
    element.addEventListener("focusout", () => setTimeout(() => {
      if (element.isConnected && !element.contains(document.activeElement)) view.lastFocus = null;
    }));
    return view;
  }

  /** Outputs that scroll away leave the page and come back; only the oldest of many are dropped. */
  prune() {
    const gone = [...this.mounted.keys()].filter((output) => !output.isConnected);
    for (const output of gone.slice(0, Math.max(0, gone.length - MAX_DETACHED))) this.restore(output);
  }

  /** @param {Element} output */
  restore(output) {
    this.mounted.get(output)?.view.element.remove();
    this.mounted.delete(output);
    output.classList.remove("hh-live");
  }

  /** The kernel does not respond: show the static outputs again. */
  restoreAll() {
    if (this.own) return;
    this.disconnected = this.mounted.size > 0 || this.disconnected;
    for (const output of [...this.mounted.keys()]) this.restore(output);
  }

  /** The kernel responds again: show the interactive views. */
  remountAll() {
    this.disconnected = false;
    for (const [id, rows] of this.rows) {
      for (const output of this.outputsOf(id)) if (!output.classList.contains("hh-live")) this.mount(output, id, rows);
    }
  }

  /** The connection changed: check whether the kernel still responds. */
  probe() {
    const [first] = this.mounted.values();
    if (first) this.kernel.requestRows(first.id);
  }

  /** @param {string} id */
  outputsOf = (id) => (this.own ? [this.own] : outputsOf(id));

  applyTheme() {
    const views = [...this.mounted.values()].map(({ view }) => view);
    for (const view of [...views, ...this.running.views()]) {
      this.setTheme(view);
      view.spark();
    }
  }

  /** @param {View} view */
  setTheme(view) {
    view.element.dataset.theme = isDark() ? "dark" : "light";
  }
}

/** Start a hub. Returns the function that stops it. @param {Model} model @param {Element | null} own */
function startHub(model, own) {
  const hub = new Hub(model, own);
  hub.start();
  return () => hub.stop();
}

/** Entry point of the hub, called once per page. A view that is displayed as its own widget uses `render` only. */
function initialize(/** @type {{model: Model}} */ { model }) {
  keepOutOfFiles(model.widget_manager);
  return model.get("view_id") ? undefined : startHub(model, null);
}

/** Entry point of a displayed widget: one view in the widget's element. @param {{model: Model, el: Element}} context */
function render({ model, el }) {
  const output = h("div", { class: "hh-own", id: model.get("view_id") });
  el.append(output);
  return startHub(model, output);
}

export default { initialize, render };
