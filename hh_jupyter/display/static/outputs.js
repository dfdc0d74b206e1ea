/** The static outputs in the page. */

/** @import { Header } from "./types.js" */

/** The view of an output. Untrusted notebooks rename the attribute. */
export const idOf = (/** @type {Element} */ output) => output.id || output.getAttribute("data-jupyter-id") || "";

/** Whether an output is part of a layout of widgets, which shows its views itself. */
export const isBoxed = (/** @type {Element} */ output) => output.closest(".hh-box") !== null;

/** All outputs of a view: a cell may be shown twice. The id is untrusted data and never part of a selector. */
export const outputsOf = (/** @type {string} */ view) => [...document.getElementsByClassName("hh-output")].filter((output) => idOf(output) === view && !isBoxed(output));

/** Whether the static text of an output shows the data of a header. */
export const shows = (/** @type {Element} */ output, /** @type {Header} */ { title, duration, facts }) => [title, duration, ...facts].every((fact) => output.textContent?.includes(fact));

/** The outputs in the viewport, as reported by the browser. Their rows are requested first. */
export class VisibleOutputs {
  constructor() {
    /** @type {Set<string>} their views */
    this.views = new Set();
    this.observer = new IntersectionObserver((entries) => this.changed(entries));
  }

  /** @param {Element} output */
  watch(output) {
    this.observer.observe(output);
  }

  stop() {
    this.observer.disconnect();
  }

  /** @param {IntersectionObserverEntry[]} entries */
  changed(entries) {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) this.views.add(idOf(target));
      else this.views.delete(idOf(target));
      if (!target.isConnected) this.observer.unobserve(target);
    }
  }
}
