/** Widgets of the page's widget manager: layouts that hold a view, and what the manager saves in files. */

/** @import { SavedWidget, WidgetManager, WidgetView } from "./types.js" */

import { h } from "./dom.js";

const BOX_PREFIX = "hh-box-";
const BOX_RETRY_MS = 500;
const MAX_BOX_RETRIES = 10;

/** The layouts that are shown in place of their static outputs. */
export class Boxes {
  /** @param {WidgetManager | undefined} manager */
  constructor(manager) {
    this.manager = manager;
    /** @type {Map<Element, WidgetView | null>} shown by the output that holds it; null: on its way */
    this.shown = new Map();
  }

  /**
   * Show the widgets in an output, if they are of this kernel. After a reload the manager gets to know them one by one.
   * @param {Element} output
   * @param {string} id
   */
  async show(output, id, retries = MAX_BOX_RETRIES) {
    const model = id.slice(BOX_PREFIX.length);
    if (!id.startsWith(BOX_PREFIX) || this.shown.has(output) || output.classList.contains("hh-live") || !this.manager) return;
    if (!this.manager.has_model(model)) {
      if (retries) setTimeout(() => output.isConnected && this.show(output, id, retries - 1), BOX_RETRY_MS);
      return;
    }
    for (const old of this.shown.keys()) if (!old.isConnected && old.id === output.id) this.remove(old);
    this.shown.set(output, null);
    try {
      const view = await this.manager.create_view(await this.manager.get_model(model));
      if (!output.isConnected || !this.shown.has(output)) throw new Error("closed");
      const place = h("div", { class: "hh-widgets" });
      output.append(place);
      output.classList.add("hh-live");
      this.shown.set(output, view);
      // Lumino's own way to put a widget into a page; the function is on its class.
      view.luminoWidget.constructor.attach(view.luminoWidget, place);
    } catch {
      this.remove(output); // The static form stays.
    }
  }

  /** The kernel was restarted, or a layout closed: show the static outputs again. */
  removeDead() {
    for (const [output, view] of this.shown) if (view && !view.model.comm_live) this.remove(output);
  }

  stop() {
    for (const output of [...this.shown.keys()]) this.remove(output);
  }

  /** @param {Element} output */
  remove(output) {
    const view = this.shown.get(output);
    this.shown.delete(output);
    output.classList.remove("hh-live");
    view?.remove();
    output.querySelector(".hh-widgets")?.remove();
  }
}

/**
 * Put code into a new cell below the one that holds an element. Returns false where that cannot be done: not every front end
 * lets the page change the notebook, and the widgets of one kernel may be in several notebooks.
 * @param {WidgetManager | undefined} manager @param {Element} element @param {string} code
 */
export function newCellBelow(manager, element, code) {
  const cell = element.closest(".jp-Cell");
  const model = manager?.context?.model;
  const index = Number(cell?.getAttribute("data-windowed-list-index") ?? -1);
  const source = model?.sharedModel?.getCell?.(index)?.getSource?.();
  if (source === undefined || model.readOnly || !source.includes(cell?.querySelector(".cm-line")?.textContent ?? "")) return false;
  model.sharedModel.insertCell(index + 1, { cell_type: "code", source: code });
  return true;
}

/**
 * Leave our widgets out of what "Save Widget State Automatically" saves: a file has their outputs, which need no state.
 * @param {any} manager
 */
export function keepOutOfFiles(manager) {
  const whole = manager?.get_state_sync;
  if (typeof whole !== "function" || whole.withoutOurs) return;
  const get_state_sync = (/** @type {any[]} */ ...options) => {
    const saved = whole.apply(manager, options);
    return { ...saved, state: withoutOurs(saved.state) };
  };
  manager.get_state_sync = Object.assign(get_state_sync, { withoutOurs: true });
}

/**
 * The state of widgets without ours, without what refers to them, which could not be restored, and without their layouts.
 * @param {Record<string, SavedWidget>} state
 */
export function withoutOurs(state) {
  const refers = (/** @type {string} */ from, /** @type {string} */ to) => JSON.stringify(state[from]).includes(`"IPY_MODEL_${to}"`);
  const ids = Object.keys(state);
  const ours = ids.filter((id) => state[id].state._anywidget_id?.startsWith("hh_jupyter."));
  const gone = new Set(ours);
  for (const id of gone) ids.filter((from) => refers(from, id)).forEach((from) => gone.add(from));
  const left = ids.filter((id) => !gone.has(id));
  const layouts = left.filter((id) => ours.some((from) => refers(from, id)) && !left.some((from) => refers(from, id)));
  return Object.fromEntries(left.filter((id) => !layouts.includes(id)).map((id) => [id, state[id]]));
}
