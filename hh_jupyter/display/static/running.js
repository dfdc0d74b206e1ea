/**
 * The view of a running cell, placed below the cell's code. It is not an output, which would split the output of the cell.
 */

/** @import { Header } from "./types.js" */
/** @import { View } from "./view.js" */

import { h } from "./dom.js";

const REDRAW_MS = 250;
const HANDOVER_MS = 1500;
/** After this many ticks without the running mark, a cell has ended without a message: its kernel died. */
const MAX_IDLE_TICKS = 12;

/**
 * Find the running cell with this code; null if there is none, or if several notebooks have one. The page does not contain
 * cell ids, but the code and the `[*]` of running cells. Of several cells with the same code the kernel runs the first.
 * @param {Set<string>} lines of its code
 * @param {Document} doc
 * @returns {Element | null}
 */
export function findCell(lines, doc = document) {
  const found = [...doc.querySelectorAll(".jp-CodeCell")].filter((cell) => isBusy(cell) && hasCode(cell, lines));
  const notebooks = new Set(found.map((cell) => cell.closest(".jp-Notebook")));
  return notebooks.size === 1 ? found[0] : null;
}

const isBusy = (/** @type {Element} */ cell) => cell.querySelector(".jp-InputPrompt")?.textContent?.includes("*") ?? false;

/**
 * Compare the rendered lines: the editor renders only lines in the viewport, and each must be a line of the cell.
 * @param {Element} cell
 * @param {Set<string>} lines
 */
function hasCode(cell, lines) {
  const drawn = [...cell.querySelectorAll(".jp-InputArea-editor .cm-line")].map((line) => (line.textContent ?? "").trimEnd());
  return drawn.some(Boolean) && drawn.every((line) => lines.has(line));
}

/**
 * A box with the elements and classes of JupyterLab's outputs, so that the view does not move when it becomes one.
 * @param {Element} view
 */
function likeAnOutput(view) {
  return h("div", { class: "jp-Cell-outputWrapper hh-beside" }, h("div", { class: "jp-Collapser jp-Cell-outputCollapser", style: { visibility: "hidden" } }),
    h("div", { class: "jp-OutputArea jp-Cell-outputArea" }, h("div", { class: "jp-OutputArea-child" },
      h("div", { class: "jp-OutputPrompt jp-OutputArea-prompt" }),
      h("div", { class: "jp-RenderedHTMLCommon jp-RenderedHTML jp-OutputArea-output" }, h("div", { style: { margin: "2px 0", overflow: "hidden" } }, view)))));
}

class RunningCell {
  /**
   * @param {View} view
   * @param {string} source code of the cell
   * @param {() => void} onLost the cell ended without a message
   */
  constructor(view, source, onLost) {
    this.view = view;
    this.lines = new Set(source.split("\n").map((line) => line.trimEnd()));
    this.onLost = onLost;
    this.idleTicks = 0;
    this.startedAt = 0;
    /** @type {Element | null} */
    this.cell = null;
    this.box = likeAnOutput(view.element);
    this.timer = setInterval(() => this.tick(), REDRAW_MS);
  }

  /**
   * @param {Header} header
   * @param {DataView[]} buffers
   */
  update(header, buffers) {
    this.startedAt = performance.now() - (header.elapsed_ms ?? 0);
    this.view.update(header, buffers);
    this.tick();
  }

  /** Extend running spans between two messages. Hidden pages are not redrawn. */
  tick() {
    if (document.hidden || !this.view.trace) return;
    if (!this.cell?.isConnected) this.place();
    this.idleTicks = this.cell && isBusy(this.cell) ? 0 : this.idleTicks + 1;
    if (this.idleTicks > MAX_IDLE_TICKS) this.onLost();
    else if (this.box.isConnected) this.view.grow(performance.now() - this.startedAt);
  }

  place() {
    this.cell = findCell(this.lines) ?? this.cell;
    if (!this.cell?.isConnected) return;
    const outputs = this.cell.querySelector(".jp-Cell-outputWrapper");
    if (outputs) outputs.after(this.box);
    else this.cell.append(this.box);
  }

  stop() {
    clearInterval(this.timer);
    this.box.remove();
  }
}

/** The views of all running cells. */
export class RunningViews {
  constructor() {
    /** @type {Map<string, RunningCell>} */
    this.cells = new Map();
  }

  /**
   * @param {string} id
   * @returns {View | undefined}
   */
  get(id) {
    return this.cells.get(id)?.view;
  }

  views() {
    return [...this.cells.values()].map(({ view }) => view);
  }

  /**
   * Show the spans so far of a running cell.
   * @param {string} id
   * @param {string} source
   * @param {() => View} create
   * @param {Header} header
   * @param {DataView[]} buffers
   */
  update(id, source, create, header, buffers) {
    if (!this.cells.has(id)) this.cells.set(id, new RunningCell(create(), source, () => this.end(id)));
    this.cells.get(id)?.update(header, buffers);
  }

  /**
   * The cell ended: its output arrives soon and takes over the view.
   * @param {string} id
   */
  ending(id) {
    const running = this.cells.get(id);
    setTimeout(() => this.cells.get(id) === running && this.end(id), HANDOVER_MS);
  }

  /**
   * Remove the view from the page; a further update may show it again.
   * @param {string} id
   */
  hide(id) {
    this.cells.get(id)?.stop();
  }

  /** @param {string} id */
  end(id) {
    this.hide(id);
    this.cells.delete(id);
  }

  stop() {
    for (const id of [...this.cells.keys()]) this.end(id);
  }
}
