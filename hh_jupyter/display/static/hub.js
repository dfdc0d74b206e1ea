/**
 * The hub: one model per kernel, never displayed. It finds the static outputs of its kernel in the page and puts the
 * interactive view in their place while the kernel answers. Messages are described in display/hub.py.
 */

import { h } from "./dom.js";
import { Running } from "./running.js";
import { newState, View } from "./view.js";

const ANSWER_MS = 2000;
const AGAIN_MS = 3000;
const MOST_AGAIN = 4;
const HANDOVER_MS = 1500;
const MOST_DETACHED = 100;
let serial = 0;

/** Light or dark as the page around says; the system's preference only where nothing else is said. */
export function isDark(doc = document) {
  const body = doc.body;
  const lab = body.getAttribute("data-jp-theme-light");
  if (lab !== null) return lab === "false";
  const kind = body.getAttribute("data-vscode-theme-kind") ?? body.className;
  if (/vscode-/.test(kind)) return /dark|high-contrast(?!-light)/.test(kind);
  const said = doc.documentElement.getAttribute("theme") ?? doc.documentElement.getAttribute("data-theme");
  if (said) return said === "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

class Hub {
  /**
   * @param {any} model of anywidget
   * @param {Element | null} own the one output that is looked after; null: all of the page
   */
  constructor(model, own = null) {
    this.model = model;
    this.own = own;
    /** @type {Map<Element, {id: string, view: View}>} mounted views by the output that holds them */
    this.mounted = new Map();
    /** @type {Map<string, {header: any, buffers: DataView[]}>} the last rows of each view */
    this.rows = new Map();
    this.states = new Map();
    /** @type {Map<string, Running>} views of cells that run, in no output yet */
    this.running = new Map();
    this.foreign = new Set();
    this.waiting = new Map();
    this.asked = new Map();
    this.away = false;
    /** When the kernel last said something. */
    this.heard = 0;
    this.observer = new MutationObserver((records) => this.changed(records));
    this.themes = new MutationObserver(() => this.theme());
    this.onMessage = (message, buffers) => this.receive(message, buffers ?? []);
    this.onGone = () => this.probe();
    this.onSight = () => this.sight();
    this.onToggle = ({ target }) => target.open && this.found(target);
  }

  start() {
    this.model.on("msg:custom", this.onMessage);
    this.model.on("comm_live_update", this.onGone);
    if (!this.own) {
      this.observer.observe(document.body, { childList: true, subtree: true });
      document.addEventListener("visibilitychange", this.onSight);
      this.sight();
    }
    const attributeFilter = ["class", "theme", "data-theme", "data-jp-theme-light", "data-vscode-theme-kind"];
    this.themes.observe(document.body, { attributes: true, attributeFilter });
    this.themes.observe(document.documentElement, { attributes: true, attributeFilter });
    document.addEventListener("toggle", this.onToggle, true); // It does not bubble.
    this.found(this.own ?? document.body);
  }

  stop() {
    document.removeEventListener("toggle", this.onToggle, true);
    this.model.off("msg:custom", this.onMessage);
    this.model.off("comm_live_update", this.onGone);
    this.observer.disconnect();
    this.themes.disconnect();
    document.removeEventListener("visibilitychange", this.onSight);
    for (const id of [...this.running.keys()]) this.ended(id);
    for (const timer of this.asked.values()) clearTimeout(timer);
    for (const { reject } of this.waiting.values()) reject(new Error("closed"));
    this.restoreAll();
  }

  /** What runs is only told to a page that somebody sees. */
  sight() {
    this.send({ type: "sight", visible: !document.hidden });
  }

  /** Look for outputs in what was added; our own drawing is not looked at. */
  changed(records) {
    for (const { target, addedNodes } of records) {
      if (target.closest?.(".hh-view")) continue;
      for (const node of addedNodes) if (node.nodeType === 1) this.found(node);
    }
  }

  found(root) {
    const outputs = root === this.own || root.matches(".hh-output") ? [root] : root.querySelectorAll(".hh-output");
    for (const output of outputs) {
      const id = output.id || output.getAttribute("data-jupyter-id");
      // One inside of something folded is asked for when that opens: a table of many must not ask for all of them.
      if (output.parentElement?.closest("details:not([open])")) continue;
      if (!id || this.foreign.has(id) || output.classList.contains("hh-live")) continue;
      const rows = this.rows.get(id);
      // Under a cell that ran again there are other spans than those we know: until they come its own text is shown.
      if (rows && !this.away && says(output, rows.header)) this.mount(output, id, rows);
      else this.running.get(id)?.stop();
      this.ask(id);
    }
  }

  /** Ask for the rows of a view; where no answer comes the static output is shown, and a few more questions are asked. */
  ask(id, times = 0) {
    clearTimeout(this.asked.get(id));
    const next = (timer) => this.asked.set(id, timer);
    next(this.unlessHeard(() => {
      this.restoreAll();
      if (times < MOST_AGAIN && this.outputsOf(id).length) next(setTimeout(() => this.ask(id, times + 1), AGAIN_MS * 2 ** times));
    }, next));
    this.send({ type: "rows", view: id, have: this.rows.get(id)?.header.version ?? null });
  }

  /**
   * Give up on the kernel when it says nothing for a while. One that says something else is busy, and so may the page be.
   * @param {() => void} then
   * @param {(timer: any) => void} again a new timer stands for the one before
   */
  unlessHeard(then, again) {
    const since = performance.now();
    return setTimeout(() => (this.heard > since ? again(this.unlessHeard(then, again)) : then()), ANSWER_MS);
  }

  /** A question with one answer. */
  request(message) {
    serial += 1;
    const number = serial;
    return new Promise((resolve, reject) => {
      let timer = this.unlessHeard(() => {
        this.waiting.delete(number);
        this.restoreAll();
        reject(new Error("no answer"));
      }, (next) => (timer = next));
      this.waiting.set(number, {
        reject,
        resolve: (answer) => {
          clearTimeout(timer);
          resolve(answer);
        },
      });
      this.send({ ...message, number });
    });
  }

  send(message) {
    try {
      this.model.send(message);
    } catch {
      // The kernel is gone: the timer of the question notices.
    }
  }

  receive(message, buffers) {
    this.heard = performance.now();
    if (this.away) this.back();
    if (message.type === "rows") this.take(message, buffers);
    else if (message.type === "changed") this.refresh(message.view);
    else if (message.type === "running") this.run(message, buffers);
    else if (message.type === "ended") this.ending(message.view);
    else if (message.type === "answer") {
      this.waiting.get(message.number)?.resolve(message.value);
      this.waiting.delete(message.number);
    }
  }

  /** Rows of a view, or the word that it is not ours. An answer that comes late brings the view back. */
  take({ view: id, header }, buffers) {
    clearTimeout(this.asked.get(id));
    this.asked.delete(id);
    if (!header) {
      this.foreign.add(id);
      return;
    }
    const rows = this.keep(id, header, buffers);
    for (const output of this.outputsOf(id)) {
      const mounted = this.mounted.get(output);
      if (mounted) mounted.view.update(header, rows.buffers);
      else if (rows.buffers.length) {
        // Held by the hub of a kernel that was restarted: it cannot answer, this one's kernel just did.
        output.dispatchEvent(new CustomEvent("hh-release"));
        this.mount(output, id, rows);
      }
    }
  }

  /** A cell runs: its spans so far. */
  run({ view: id, source, header }, buffers) {
    if (!this.running.has(id)) {
      this.running.set(id, new Running(this.create(id), source, () => this.ended(id)));
    }
    const running = this.running.get(id);
    this.themed(running.view);
    running.update(header, this.keep(id, header, buffers).buffers);
  }

  /** The cell ended: its output is on the way and takes the view over. */
  ending(id) {
    const running = this.running.get(id);
    setTimeout(() => this.running.get(id) === running && this.ended(id), HANDOVER_MS);
  }

  ended(id) {
    this.running.get(id)?.stop();
    this.running.delete(id);
  }

  /** The last rows of a view; without new ones the old ones stand. */
  keep(id, header, buffers) {
    const rows = { header, buffers: buffers.length ? buffers : this.rows.get(id)?.buffers ?? [] };
    this.rows.set(id, rows);
    return rows;
  }

  refresh(id) {
    this.foreign.delete(id);
    if (this.rows.has(id) || this.outputsOf(id).length) this.ask(id);
  }

  mount(output, id, rows) {
    const view = this.freed(id) ?? this.create(id);
    const { activeElement } = document;
    // Moving takes the focus, and so did the removal of the output that the view was in.
    const focus = view.element.contains(activeElement) ? activeElement : activeElement === document.body ? view.lastFocus : null;
    this.running.get(id)?.stop();
    this.running.delete(id);
    this.themed(view);
    output.append(view.element);
    output.classList.add("hh-live");
    this.mounted.set(output, { id, view });
    output.addEventListener("hh-release", () => this.mounted.has(output) && this.restore(output), { once: true });
    view.update(rows.header, rows.buffers);
    focus?.focus({ preventScroll: true });
    this.prune();
  }

  /** The view that showed this until now and has lost its place: the cell has ended, or its output was replaced. */
  freed(id) {
    const orphan = [...this.mounted].find(([old, entry]) => entry.id === id && !old.isConnected);
    if (orphan) this.mounted.delete(orphan[0]);
    return this.running.get(id)?.view ?? orphan?.[1].view;
  }

  create(id) {
    if (!this.states.has(id)) this.states.set(id, newState());
    serial += 1;
    const view = new View(`hh-${serial}`, this.states.get(id), {
      details: (span) => this.request({ type: "details", view: id, span }),
      python: (span) => this.request({ type: "python", view: id, span }),
      act: (type) => this.request({ type, view: id }),
    });
    // An update of the output replaces its nodes; the view moves over, and what had the focus gets it back. Removal takes
    // the focus like leaving does: only a moment later it shows which of the two it was.
    const { element } = view;
    element.addEventListener("focusin", (event) => (view.lastFocus = event.target));
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
    if (first) this.ask(first.id);
  }

  /** All outputs of a view: the same cell may be shown twice. The id is data, so no selector is built from it. */
  outputsOf(id) {
    if (this.own) return [this.own];
    return [...document.getElementsByClassName("hh-output")].filter((o) => o.id === id || o.getAttribute("data-jupyter-id") === id);
  }

  theme() {
    for (const { view } of [...this.mounted.values(), ...this.running.values()]) {
      this.themed(view);
      view.spark();
    }
  }

  themed(view) {
    view.element.dataset.theme = isDark() ? "dark" : "light";
  }
}

/** Whether a static output is about what we know. */
const says = (output, { title, duration, facts }) => [title, duration, ...facts].every((fact) => output.textContent.includes(fact));

/** The hub's entry point: called once per page. A view that is displayed as a widget of its own looks after itself. */
function initialize({ model }) {
  if (model.get("view_id")) return undefined;
  const hub = new Hub(model);
  hub.start();
  return () => hub.stop();
}

/** The entry point of a displayed widget: one view, in the widget's element. */
function render({ model, el }) {
  const output = h("div", { class: "hh-own", id: model.get("view_id") });
  el.append(output);
  const hub = new Hub(model, output);
  hub.start();
  return () => hub.stop();
}

export default { initialize, render };
