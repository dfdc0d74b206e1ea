/** The static outputs in the page. */

/** @import { Header } from "./types.js" */

/** An output's view; an untrusted notebook renames the attribute. */
export const idOf = (/** @type {Element} */ output) => output.id || output.getAttribute("data-jupyter-id") || "";

/** All outputs of a view: the same cell may be shown twice. The id is data, so no selector is built from it. */
export const outputsOf = (/** @type {string} */ view) => [...document.getElementsByClassName("hh-output")].filter((output) => idOf(output) === view);

/** Whether an output is about what we know. */
export const says = (/** @type {Element} */ output, /** @type {Header} */ { title, duration, facts }) => [title, duration, ...facts].every((fact) => output.textContent?.includes(fact));

/** Which outputs are in sight, as far as the browser has said: those are asked about first. */
export class Sights {
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
