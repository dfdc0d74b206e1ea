/** What the page of the notebook says: its static outputs, which of them are in sight, and its theme. */

/** @import { Header } from "./types.js" */

/** The view of an output. Untrusted notebooks rename the attribute. */
export const idOf = (/** @type {Element} */ output) => output.id || output.getAttribute("data-jupyter-id") || "";

/** Whether an output is part of a layout of widgets, which shows its views itself. */
export const isBoxed = (/** @type {Element} */ output) => output.closest(".hh-box") !== null;

/** Whether an output is in a folded element, and so not in sight. */
export const isFolded = (/** @type {Element} */ output) => Boolean(output.parentElement?.closest("details:not([open])"));

/** All outputs of a view: a cell may be shown twice. The id is untrusted data and never part of a selector. */
export const outputsOf = (/** @type {string} */ view) => [...document.getElementsByClassName("hh-output")].filter((output) => idOf(output) === view && !isBoxed(output) && !isFolded(output));

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

/** Where JupyterLab, VS Code, Colab and documentation pages set their theme. */
const THEME_ATTRIBUTES = ["class", "theme", "data-theme", "data-jp-theme-light", "data-vscode-theme-kind"];

/** Whether the theme is dark. The system's preference counts only if the page sets no theme. */
export function isDark(doc = document) {
  const body = doc.body;
  const lab = body.getAttribute("data-jp-theme-light");
  if (lab !== null) return lab === "false";
  const kind = body.getAttribute("data-vscode-theme-kind") ?? body.className;
  if (/vscode-/.test(kind)) return /dark|high-contrast(?!-light)/.test(kind);
  const theme = doc.documentElement.getAttribute("theme") ?? doc.documentElement.getAttribute("data-theme");
  if (theme) return theme === "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/**
 * Call a function on every change of the theme.
 * @param {() => void} changed
 * @returns {() => void} stops it
 */
export function followTheme(changed) {
  const observer = new MutationObserver(changed);
  for (const root of [document.body, document.documentElement]) observer.observe(root, { attributes: true, attributeFilter: THEME_ATTRIBUTES });
  return () => observer.disconnect();
}
