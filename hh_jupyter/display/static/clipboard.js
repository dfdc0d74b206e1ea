/** What is copied, and how: the clipboard where it is open to us, else a box with the text selected. */

/** @import { Span } from "./types.js" */

import { h } from "./dom.js";

const SAID_MS = 1200;

/** A row as plain data. */
export const plainRow = (/** @type {Span} */ span) => ({
  name: span.name, kind: span.kind, ...(span.model && { model: span.model }), span_id: span.id, parent_id: span.parent?.id ?? null,
  start_ms: span.start, duration_ms: span.end - span.start, tokens: span.tokens, ...(span.tag && { error: span.tag }),
});

/**
 * Copy a text. VS Code and Colab may refuse the clipboard to an output.
 * @param {string} text
 * @param {string} what "JSON", "Python"
 * @param {HTMLElement} button says that it was done
 * @param {HTMLElement} place where the box goes
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
  }, SAID_MS);
}
