/**
 * Elements, marks, icons, number formats, the clipboard. All elements of the view are created here: span content enters
 * as text nodes or attribute values, never as markup.
 */

/** @import { Mark } from "./types.js" */

const SVG = "http://www.w3.org/2000/svg";
const FEEDBACK_MS = 1200;
/** Shown in place of what the kernel was asked for. */
export const NO_ANSWER = "The kernel does not respond.";
const FOCUSABLE = new Set(["button", "a", "input", "textarea", "select", "summary"]);

/**
 * Create an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any> | null} [attributes] `on<event>` adds a listener, `style` takes an object, null is left out
 * @param {...any} children nodes, texts, nested lists; null and false are left out
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  // JupyterLab runs its shortcuts on keys pressed in outputs unless the focused element itself opts out: `x` cuts a cell.
  if (FOCUSABLE.has(tag) || attributes?.tabindex !== undefined) {
    element.setAttribute("data-lm-suppress-shortcuts", "true");
  }
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Move the focus to an element, if there is one. */
export const focusOn = (/** @type {Element | null} */ element, preventScroll = false) => /** @type {HTMLElement | null} */ (element)?.focus({ preventScroll });

/** The part that the pointer is pressed on. @type {HTMLElement | null} */
let pressed = null;
let replaced = false;
const press = (/** @type {PointerEvent} */ { target }) => {
  pressed = target instanceof Element ? target.closest("[data-focus]") : null;
  replaced = false;
};
const release = (/** @type {PointerEvent} */ { target }) => {
  if (replaced && target instanceof Node && pressed?.contains(target)) pressed.click();
  pressed = null;
};
globalThis.document?.addEventListener("pointerdown", press, true);
globalThis.document?.addEventListener("pointerup", release, true);

/**
 * Replace what is in an element. The focus stays on the part with the same `data-focus`, and the cursor in its text.
 * If the pointer is pressed on a part, its click goes to the new one: browsers drop the click of a part that is gone.
 * @param {Element} element @param {...(Node | string)} children
 */
export function redraw(element, ...children) {
  const focused = /** @type {HTMLTextAreaElement | null} */ (element.querySelector(":focus[data-focus]"));
  const { selectionStart, selectionEnd } = focused ?? {};
  const held = pressed && element.contains(pressed);
  element.replaceChildren(...children);
  const same = (/** @type {HTMLElement} */ part) => /** @type {HTMLTextAreaElement | null} */ (element.querySelector(`[data-focus="${part.dataset.focus}"]`));
  if (pressed && held) [pressed, replaced] = [same(pressed), true];
  if (!focused) return;
  const now = same(focused);
  focusOn(now);
  if (typeof selectionStart === "number") now?.setSelectionRange(selectionStart, selectionEnd ?? selectionStart);
}

/**
 * Draw an icon from paths.
 * @param {string} name class suffix
 * @param {number} size of the square view box
 * @param {...Record<string, string>} paths attributes of each path
 */
function icon(name, size, ...paths) {
  const root = document.createElementNS(SVG, "svg");
  root.setAttribute("viewBox", `0 0 ${size} ${size}`);
  root.setAttribute("class", `hh-icon hh-icon-${name}`);
  root.setAttribute("aria-hidden", "true");
  for (const attributes of paths) {
    const path = document.createElementNS(SVG, "path");
    for (const [key, value] of Object.entries(attributes)) path.setAttribute(key, value);
    root.append(path);
  }
  return root;
}

export const chevron = () => icon("chevron", 12, { d: "M4.2 2.2 8 6l-3.8 3.8" });
/** @type {Record<string, Record<string, string>[]>} */
const TOOLS = {
  up: [{ d: "m4 10 4-4.6L12 10" }], down: [{ d: "m4 6 4 4.6L12 6" }],
  copy: [{ d: "M5.5 5.5V3a1 1 0 0 1 1-1H13a1 1 0 0 1 1 1v6.5a1 1 0 0 1-1 1h-2.5M3 5.5h6.5a1 1 0 0 1 1 1V13a1 1 0 0 1-1 1H3a1 1 0 0 1-1-1V6.5a1 1 0 0 1 1-1Z" }],
  wide: [{ d: "M1.8 3h12.4v10H1.8ZM6 3v10M10.5 6 8.5 8l2 2" }], full: [{ d: "M2 6V2.4h3.6M10.4 2.4H14V6M14 10v3.6h-3.6M5.6 13.6H2V10" }],
  good: [{ d: "M5.4 7 8 1.8c1.2 0 1.9.9 1.7 2L9.3 6h3.4c.9 0 1.5.8 1.3 1.7l-1.1 4.8c-.2.7-.7 1.1-1.4 1.1H5.4ZM2 7h3.4v6.6H2Z" }],
  bad: [{ d: "M10.6 9 8 14.2c-1.2 0-1.9-.9-1.7-2L6.7 10H3.3C2.4 10 1.8 9.2 2 8.3l1.1-4.8c.2-.7.7-1.1 1.4-1.1h6.1ZM14 9h-3.4V2.4H14Z" }],
  note: [{ d: "M2.5 2.5h11v8h-5L5.5 13.4v-2.9h-3Z" }],
};

/** An icon of a button. @param {string} name a key of TOOLS */
export const toolIcon = (name) => icon(name, 16, ...TOOLS[name]);

/**
 * A button with an icon.
 * @param {string} name a key of TOOLS
 * @param {string} title what it does, and in brackets its key
 * @param {(event: MouseEvent) => void} onclick
 * @param {Record<string, any>} [more] attributes
 */
export const toolButton = (name, title, onclick, more) => h("button", {
  class: "hh-tool", type: "button", title, "aria-label": title.replace(/ \(.*/, ""), "data-focus": name, onclick, ...more,
}, toolIcon(name));

/**
 * How cells, runs, spans and rows are marked: the characters of display/format.py, which the static forms show.
 * @type {Record<Mark | "replayed", string>}
 */
export const MARKS = { ok: "✓", error: "▲", caught: "!", wrong: "✗", unclear: "·", running: "◌", stopped: "■", cancelled: "⊘", replayed: "↺" };

/** A mark; the words beside it say the same. @param {Mark | "replayed"} mark @param {string} [more] class */
export const markOf = (mark, more = "") => h("span", { class: `hh-mark hh-mark-${mark} ${more}`, "aria-hidden": "true" }, MARKS[mark]);

/** The mark in front of a title: a check in a disc, other marks in their color. @param {Mark} mark */
export const statusMark = (mark) => markOf(mark, "hh-status");

/**
 * Format milliseconds like display/format.py: 4.2 ms, 340 ms, 2.84 s, 1m 34s, 2h 05m.
 * @param {number} ms
 */
export function duration(ms) {
  if (ms < 0.05) return ms <= 0 ? "0 ms" : "<0.1 ms";
  if (ms < 999.5) return `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 59_995) return `${(ms / 1000).toFixed(2)} s`;
  const seconds = Math.round(ms / 1000);
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
  return `${count(Math.floor(seconds / 3600))}h ${two(Math.floor((seconds % 3600) / 60))}m`;
}

/** A whole number: 12,345. The first use of a locale costs a page 15 ms. */
export const count = (/** @type {number} */ value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");

/** Tokens of a row, in five characters at most: 450, 1.6k, 352k, 1.1M. */
export function short(/** @type {number} */ value) {
  if (value < 1000) return String(value);
  if (value < 999_500) return `${(value / 1000).toFixed(value < 99_950 ? 1 : 0)}k`;
  return `${(value / 1e6).toFixed(1)}M`;
}

/** "1 error", "2 errors" */
export const plural = (/** @type {number} */ value, /** @type {string} */ word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

/** @type {Record<string, {word: string, letter: string, color: string}>} label, letter and color of each kind */
const KINDS = {
  llm: { word: "LLM", letter: "L", color: "llm" },
  tool: { word: "Tool", letter: "T", color: "tool" },
  retriever: { word: "Retrieval", letter: "R", color: "retriever" },
  reranker: { word: "Reranker", letter: "R", color: "retriever" },
  embedding: { word: "Embedding", letter: "E", color: "embedding" },
  agent: { word: "Agent", letter: "A", color: "agent" },
  chain: { word: "Chain", letter: "C", color: "chain" },
  guardrail: { word: "Guardrail", letter: "C", color: "chain" },
  http: { word: "HTTP", letter: "C", color: "chain" },
  db: { word: "Database", letter: "C", color: "chain" },
  other: { word: "Span", letter: "C", color: "chain" },
};

export const kindOf = (/** @type {string} */ kind) => KINDS[kind] ?? KINDS.other;

/** Names of the colors of kinds, each once. */
export const KIND_COLORS = [...new Set(Object.values(KINDS).map((kind) => kind.color))];

/**
 * The small square or disc with a letter that names a span's kind.
 * @param {string} kind
 */
export function kindMark(kind) {
  const { word, letter, color } = kindOf(kind);
  return h("span", { class: `hh-kind hh-c-${color}`, title: word, "aria-hidden": "true" }, letter);
}

/**
 * Copy a text. VS Code and Colab may deny outputs access to the clipboard: then a box shows it selected, until Escape or a
 * click elsewhere. It stays when it loses the focus, which JupyterLab takes when a cell ends.
 * @param {string} text
 * @param {string} what "JSON", "Python"
 * @param {HTMLElement} button shows "Copied" for a moment
 * @param {HTMLElement} place what the box comes after; it is often drawn anew
 */
export async function copyText(text, what, button, place) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = h("textarea", {
      class: "hh-offer", readonly: true, rows: 6, "aria-label": `${what} to copy`, onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        box.remove();
        button.focus();
      },
    });
    const close = (/** @type {Event} */ { target }) => {
      if (target === box) return;
      box.remove();
      document.removeEventListener("pointerdown", close, true);
    };
    document.addEventListener("pointerdown", close, true);
    box.value = text;
    if (place.nextElementSibling?.matches(".hh-offer")) place.nextElementSibling.remove();
    place.after(box);
    box.select();
    return;
  }
  flash(button, button.textContent ? "Copied" : markOf("ok"));
}

/** Let a button show for a moment what it did. @param {HTMLElement} button @param {Node | string} what */
export function flash(button, what) {
  if (button.dataset.flash) return;
  button.dataset.flash = "true";
  const before = [...button.childNodes];
  button.replaceChildren(what);
  setTimeout(() => {
    button.replaceChildren(...before);
    delete button.dataset.flash;
  }, FEEDBACK_MS);
}
