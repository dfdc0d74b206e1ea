/**
 * The hub: one model per kernel, never displayed. It finds the static outputs of its kernel in the page and shows interactive
 * views in them while the kernel responds.
 *
 * Who owns which state: the hub which view is in which output, and what is known of each view; kernel.js whether the kernel
 * responds and which requests are open; running.js the cells that run; widgets.js the layouts; each view what is selected
 * and folded in it.
 */

/** @import { Header, Known, Model, Rows, Variant } from "./types.js" */

import { h } from "./dom.js";
import { Kernel } from "./kernel.js";
import { followTheme, idOf, isBoxed, isDark, isFolded, outputsOf, shows, VisibleOutputs } from "./page.js";
import { RunningViews } from "./running.js";
import { TableView } from "./table.js";
import { newState, View } from "./view.js";
import { Boxes, keepOutOfFiles } from "./widgets.js";

const MAX_DETACHED = 100;
let viewCount = 0;

class Hub {
  /** @param {Model} model of anywidget @param {Element | null} own the only output to manage; null: all outputs of the page */
  constructor(model, own) {
    this.model = model;
    this.own = own;
    this.kernel = new Kernel(model, this);
    /** @type {Map<Element, View | TableView>} by the output that holds it, also for a while after the output left the page */
    this.mounted = new Map();
    /** @type {Map<string, Known>} by the id of the view */
    this.known = new Map();
    this.running = new RunningViews();
    this.boxes = new Boxes(model.widget_manager);
    this.visible = new VisibleOutputs();
    this.stopped = new AbortController();
    this.observer = new MutationObserver((records) => this.nodesAdded(records));
    this.unfollowTheme = () => {};
    this.onConnectionChange = () => this.connectionChanged();
  }

  start() {
    const { signal } = this.stopped;
    this.kernel.start();
    this.model.on("comm_live_update", this.onConnectionChange);
    if (!this.own) {
      this.observer.observe(document.body, { childList: true, subtree: true });
      document.addEventListener("visibilitychange", () => this.kernel.reportVisibility(), { signal });
      this.kernel.reportVisibility();
    }
    this.unfollowTheme = followTheme(() => this.themeChanged());
    // `toggle` does not bubble.
    document.addEventListener("toggle", ({ target }) => target instanceof HTMLDetailsElement && target.open && this.findOutputs(target), { capture: true, signal });
    this.findOutputs(this.own ?? document.body);
  }

  stop() {
    this.stopped.abort();
    this.model.off("comm_live_update", this.onConnectionChange);
    this.observer.disconnect();
    this.visible.stop();
    this.unfollowTheme();
    this.kernel.stop();
    this.running.stop();
    this.boxes.stop();
    this.restoreAll();
  }

  // Outputs in the page.

  /** Look for outputs in added nodes, except in those of our own views. @param {MutationRecord[]} records */
  nodesAdded(records) {
    for (const { target, addedNodes } of records) {
      if (target instanceof Element && target.closest(".hh-view")) continue;
      for (const node of addedNodes) if (node instanceof Element) this.findOutputs(node);
    }
  }

  /** @param {Element} root */
  findOutputs(root) {
    for (const output of root === this.own || root.matches(".hh-output") ? [root] : root.querySelectorAll(".hh-output")) this.found(output);
  }

  /** Show the view of an output that is new in the page, if its rows are known, and request them. @param {Element} output */
  found(output) {
    const id = idOf(output);
    if (output.classList.contains("hh-box")) this.boxes.show(output, id);
    if (isBoxed(output) && !this.own) return;
    // Outputs in a folded element are requested when it opens: a table would otherwise request all its rows.
    if (isFolded(output)) return;
    if (!id || this.mounted.has(output)) return;
    const { foreign, rows } = this.knownOf(id);
    if (foreign) return;
    // If another hub was faster, its kernel may be dead: our kernel's reply decides.
    if (!output.classList.contains("hh-live")) {
      // The view of the running cell becomes that of its output. A cell that ran again has new spans: show its static text
      // until they arrive.
      if (rows && this.kernel.responds && (this.running.get(id) || shows(output, rows.header))) this.mount(output, id, rows);
      else this.running.hide(id);
      this.visible.watch(output);
    }
    this.kernel.requestRows(id);
  }

  /** @param {string} id */
  outputsOf(id) {
    return this.own ? [this.own] : outputsOf(id);
  }

  /** @param {Element} output @param {string} id @param {Rows} rows */
  mount(output, id, rows) {
    const detached = this.takeDetached(id);
    const view = this.running.get(id) ?? detached ?? (rows.header.sections ? this.createTable(id) : this.create(id));
    output.classList.add("hh-live");
    view.moveTo(output);
    this.running.end(id);
    this.mounted.set(output, view);
    // The hub of a restarted kernel takes the output over.
    output.addEventListener("hh-release", () => this.mounted.has(output) && this.restore(output), { once: true });
    view.update(rows.header, rows.buffers);
    this.prune();
  }

  /** Return the view of an output that has left the page: an update replaces the nodes of an output. @param {string} id */
  takeDetached(id) {
    for (const [output, view] of this.mounted) {
      if (view.id !== id || output.isConnected) continue;
      this.mounted.delete(output);
      return view;
    }
    return undefined;
  }

  /** @param {string} id */
  create(id) {
    viewCount += 1;
    const view = new View(id, `hh-${viewCount}`, this.knownOf(id).state, this.kernel);
    view.setTheme(isDark());
    return view;
  }

  /** @param {string} id of a report */
  createTable(id) {
    viewCount += 1;
    const view = new TableView(id, `hh-${viewCount}`, this.knownOf(id).state, this.kernel, (root) => this.findFolded(root));
    view.setTheme(isDark());
    return view;
  }

  /** Show the spans of an opened row, folded at first. @param {Element} root */
  findFolded(root) {
    for (const output of root.querySelectorAll(".hh-output")) this.knownOf(idOf(output)).state.open ??= false;
    this.findOutputs(root);
  }

  /** Show the static output again. @param {Element} output */
  restore(output) {
    this.mounted.get(output)?.remove();
    this.mounted.delete(output);
    output.classList.remove("hh-live");
  }

  /** Outputs that scroll away leave the page and come back; only the oldest of many are dropped. */
  prune() {
    const gone = [...this.mounted.keys()].filter((output) => !output.isConnected);
    for (const output of gone.slice(0, Math.max(0, gone.length - MAX_DETACHED))) this.restore(output);
  }

  themeChanged() {
    for (const view of [...this.mounted.values(), ...this.running.views()]) view.setTheme(isDark());
  }

  // What the kernel sends.

  /** @param {string} id @returns {Known} */
  knownOf(id) {
    const known = this.known.get(id) ?? { state: newState(), rows: null, foreign: false };
    this.known.set(id, known);
    return known;
  }

  /** The version of the rows that the page has. @param {string} id */
  version(id) {
    return this.known.get(id)?.rows?.header.version ?? null;
  }

  /** @param {string} id */
  isVisible(id) {
    return this.visible.views.has(id);
  }

  /**
   * The rows of a view, or no header if the kernel does not know it. A late reply mounts the view again.
   * @param {string} id @param {Header | null} header @param {DataView[]} buffers
   */
  rows(id, header, buffers) {
    if (!header) {
      this.knownOf(id).foreign = true;
      for (const output of this.outputsOf(id)) if (this.mounted.has(output)) this.restore(output);
      return;
    }
    const rows = this.store(id, header, buffers);
    for (const output of this.outputsOf(id)) {
      const view = this.mounted.get(output);
      if (view) view.update(header, rows.buffers);
      else if (rows.buffers.length && (!output.classList.contains("hh-live") || shows(output, header))) {
        // Held by the hub of a kernel that was restarted and cannot reply; our kernel just did.
        output.dispatchEvent(new CustomEvent("hh-release"));
        this.mount(output, id, rows);
      }
    }
  }

  /** The spans so far of a running cell. @param {string} id @param {string} source @param {Header} header @param {DataView[]} buffers */
  runningRows(id, source, header, buffers) {
    this.running.update(id, source, () => this.create(id), header, this.store(id, header, buffers).buffers);
  }

  /** A running cell ended: its output takes over the view. @param {string} id */
  ended(id) {
    this.running.ending(id);
  }

  /** The rows of a view, or what the bar says of them, have changed. @param {string} id */
  changed(id) {
    const known = this.known.get(id);
    if (known) known.foreign = false;
    if (known?.rows || this.outputsOf(id).length) this.kernel.requestRows(id);
  }

  /**
   * Store and return the last rows of a view. Without new columns the previous ones stay, which the previous header describes.
   * @param {string} id @param {Header} header @param {DataView[]} buffers
   */
  store(id, header, buffers) {
    const known = this.knownOf(id);
    known.rows = known.rows && !buffers.length ? { header: { ...known.rows.header, ...header }, buffers: known.rows.buffers } : { header, buffers };
    return known.rows;
  }

  /** A call that is made again has got on, or ended: also for a view whose output is just being replaced, or out of sight. @param {string} id @param {string} span @param {Variant} variant @param {{spent: string, raise: string}} limit */
  variant(id, span, variant, limit) {
    for (const view of this.mounted.values()) if (view instanceof View && view.id === id) view.again?.progress(span, variant, limit);
  }

  // Whether the kernel is there.

  /** Show the static outputs. A widget of its own has none. */
  restoreAll() {
    if (!this.own) for (const output of [...this.mounted.keys()]) this.restore(output);
  }

  /** The kernel does not respond. Should it be busy or disconnected only, it replies to this request later. */
  unresponsive() {
    const [view] = this.mounted.values();
    this.restoreAll();
    if (view) this.kernel.requestRows(view.id);
  }

  /** The kernel responds again: show the interactive views. */
  responsive() {
    for (const [id, { rows }] of this.known) {
      if (rows) for (const output of this.outputsOf(id)) if (!output.classList.contains("hh-live")) this.mount(output, id, rows);
    }
  }

  /** The kernel was restarted, or a model was closed. */
  connectionChanged() {
    setTimeout(() => this.boxes.removeDead()); // The manager disconnects one model after the other.
    if (this.mounted.size) this.kernel.giveUp();
  }
}

/** Start a hub. Returns the function that stops it. @param {Model} model @param {Element | null} own */
function startHub(model, own) {
  const hub = new Hub(model, own);
  hub.start();
  return () => hub.stop();
}

/** Entry point of the hub, called once per page. A view that is displayed as its own widget uses `render` only. */
export function initialize(/** @type {{model: Model}} */ { model }) {
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
