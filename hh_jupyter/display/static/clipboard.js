/** Copy text to the clipboard, or show it selected in a text box if the clipboard is not accessible. */

/** @import { Span } from "./types.js" */

import { h } from "./dom.js";

const FEEDBACK_MS = 1200;

/** A row as plain data. */
export const plainRow = (/** @type {Span} */ span) => ({
  name: span.name, kind: span.kind, ...(span.model && { model: span.model }), span_id: span.id, parent_id: span.parent?.id ?? null,
  start_ms: span.start, duration_ms: span.end - span.start, tokens: span.tokens, ...(span.tag && { error: span.tag }),
});

/**
 * Copy a text. VS Code and Colab may deny outputs access to the clipboard.
 * @param {string} text
 * @param {string} what "JSON", "Python"
 * @param {HTMLElement} button shows "Copied" for a moment
 * @param {HTMLElement} place parent of the text box
 */
export async function copyText(text, what, button, place) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = h("textarea", {
      class: "hh-offer", readonly: true, rows: 6, "aria-label": `${what} to copy`, onblur: () => box.remove(),
    });
    box.value = text;
    place.append(box);
    box.select();
    return;
  }
  if (button.dataset.word) return;
  button.dataset.word = button.textContent ?? "";
  button.textContent = "Copied";
  setTimeout(() => {
    button.textContent = button.dataset.word ?? "";
    delete button.dataset.word;
  }, FEEDBACK_MS);
}
