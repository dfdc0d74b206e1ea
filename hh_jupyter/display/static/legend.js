/** The legend at the bottom, and the list of keys that `?` opens. */

/** @import { State, Trace } from "./types.js" */

import { h, kindMark, kindOf } from "./dom.js";

const SHORT = [["e", "error"], ["/", "filter"]];
const KEYS = [
  ["↑ ↓  j k", "row above or below"], ["← →", "fold, unfold, to the parent"], ["Home End", "first or last row"],
  ["Enter", "to the details"], ["Esc", "back to the tree"], ["e", "next error"], ["/", "filter"], ["*", "unfold all siblings"],
  ["c", "copy the span as JSON"], ["C", "copy the whole cell"], ["p", "copy as Python"], ["?", "these keys"],
];

/**
 * The meaning of marks and bars, and the most important keys.
 * @param {Trace} trace
 * @param {State} state of the view
 * @param {() => void} toggle opens and closes the list of keys
 */
export function legendItems(trace, state, toggle) {
  const seen = new Map(trace.spans.map((span) => [kindOf(span.kind).word, span.kind]));
  const button = h("button", { class: "hh-keys-button", type: "button", "aria-expanded": String(state.keys), "data-focus": "keys", onclick: toggle },
    h("kbd", null, "?"), "keys");
  return [
    ...[...seen].map(([word, kind]) => h("span", { class: "hh-item" }, kindMark(kind), word)),
    h("span", { class: "hh-item" }, "solid: own work, pale: waiting, dotted: first token"), h("span", { class: "hh-space" }),
    ...SHORT.map(([key, action]) => h("span", { class: "hh-item" }, h("kbd", null, key), action)), button,
    state.keys ? h("dl", { class: "hh-keys" }, KEYS.map(([key, action]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, action)))) : "",
  ];
}
