/**
 * The view of a cell that still runs, drawn into the page below the cell's code. It is no output: an output of ours before
 * the body ends would split what the cell prints.
 */

/** @import { Header } from "./types.js" */
/** @import { View } from "./view.js" */

import { h } from "./dom.js";

const BEAT_MS = 250;
const HANDOVER_MS = 1500;
/** A cell that is not marked as running for so many ticks has ended, though nobody said so: its kernel died. */
const MOST_MISSED = 12;

/**
 * The cell with this code that waits for its kernel; null when there is none or when it could be more than one notebook's.
 * A cell's id is nowhere in the page, its code and its `[*]` are. Of cells with the same code the kernel runs the first.
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
 * The editor draws only the lines in sight, so each that is drawn must be one of the cell's.
 * @param {Element} cell
 * @param {Set<string>} lines
 */
function hasCode(cell, lines) {
  const drawn = [...cell.querySelectorAll(".jp-InputArea-editor .cm-line")].map((line) => (line.textContent ?? "").trimEnd());
  return drawn.some(Boolean) && drawn.every((line) => lines.has(line));
}

class Running {
  /**
   * @param {View} view
   * @param {string} source code of the cell
   * @param {() => void} lost the cell ended and nobody said so
   */
  constructor(view, source, lost) {
    this.view = view;
    this.lines = new Set(source.split("\n").map((line) => line.trimEnd()));
    this.lost = lost;
    this.missed = 0;
    this.since = 0;
    /** @type {Element | null} */
    this.cell = null;
    this.box = h("div", { class: "hh-beside" }, view.element);
    this.timer = setInterval(() => this.tick(), BEAT_MS);
  }

  /**
   * @param {Header} header
   * @param {DataView[]} buffers
   */
  update(header, buffers) {
    this.since = performance.now() - (header.elapsed_ms ?? 0);
    this.view.update(header, buffers);
    this.tick();
  }

  /** Time goes on between two messages. Nothing is drawn while nobody looks. */
  tick() {
    if (document.hidden || !this.view.trace) return;
    if (!this.cell?.isConnected) this.place();
    this.missed = this.cell && isBusy(this.cell) ? 0 : this.missed + 1;
    if (this.missed > MOST_MISSED) this.lost();
    else if (this.box.isConnected) this.view.grow(performance.now() - this.since);
  }

  place() {
    this.cell = findCell(this.lines) ?? this.cell;
    if (!this.cell?.isConnected) return;
    const outputs = this.cell.querySelector(".jp-Cell-outputWrapper");
    const editor = this.cell.querySelector(".jp-InputArea-editor");
    this.box.style.marginLeft = editor ? `${editor.getBoundingClientRect().left - this.cell.getBoundingClientRect().left}px` : "";
    if (outputs) outputs.after(this.box);
    else this.cell.append(this.box);
  }

  stop() {
    clearInterval(this.timer);
    this.box.remove();
  }
}

/** All cells that run, in no output yet. */
export class RunningViews {
  constructor() {
    /** @type {Map<string, Running>} */
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
   * A cell has done this so far.
   * @param {string} id
   * @param {string} source
   * @param {() => View} create
   * @param {Header} header
   * @param {DataView[]} buffers
   */
  update(id, source, create, header, buffers) {
    if (!this.cells.has(id)) this.cells.set(id, new Running(create(), source, () => this.end(id)));
    this.cells.get(id)?.update(header, buffers);
  }

  /**
   * It ended: its output is on the way and takes the view over.
   * @param {string} id
   */
  ending(id) {
    const running = this.cells.get(id);
    setTimeout(() => this.cells.get(id) === running && this.end(id), HANDOVER_MS);
  }

  /**
   * Take it out of the page; it may be told again.
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
