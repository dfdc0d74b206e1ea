/** Texts of two runs with the words that differ marked. The kernel compares them (`encode_pieces` in diff_columns.py). */

/** @import { Child, Piece } from "./types.js" */

import { h, plural } from "./dom.js";

/** Of words that are the same, so many characters stand beside a change; those between fold. */
const CONTEXT = 240;

/** White space at the ends stays outside the mark. @param {"del" | "ins"} tag @param {string} text @returns {Child} */
function mark(tag, text) {
  const [, before, words, after] = /** @type {RegExpMatchArray} */ (text.match(/^(\s*)([^]*?)(\s*)$/));
  return words ? [before, h(tag, null, words), after] : text;
}

/** A long text beside a change, folded at white space. @param {string} text @param {boolean} first @param {boolean} last @returns {Child} */
function same(text, first, last) {
  const [start, end] = [first ? 0 : text.indexOf(" ", CONTEXT), last ? text.length : text.lastIndexOf(" ", text.length - CONTEXT)];
  const hidden = text.slice(start, end);
  if (start < 0 || end < 0 || hidden.length < CONTEXT) return text;
  const button = h("button", { class: "hh-more", type: "button", onclick: () => button.replaceWith(hidden) },
    `… ${plural(hidden.trim().split(/\s+/).length, "word")} the same …`);
  return [text.slice(0, start), button, text.slice(end)];
}

/**
 * One text of a pair: the old one or the new one with its own words marked, or both in one, the old words struck through.
 * @param {Piece[]} pieces
 * @param {"old" | "new" | "both"} side
 * @param {boolean} fold long texts that are the same
 */
export function markedText(pieces, side, fold = true) {
  return h("div", { class: `hh-text hh-${side}` }, pieces.map((piece, i) => {
    if (typeof piece === "string") return !fold ? piece : same(piece, i === 0, i === pieces.length - 1);
    const [old, now, onlySpace] = piece;
    if (onlySpace) return side === "old" ? old : now;
    return [side === "new" ? null : mark("del", old), side === "both" && old && now && !/\s$/.test(old) ? " " : null, side === "old" ? null : mark("ins", now)];
  }));
}
