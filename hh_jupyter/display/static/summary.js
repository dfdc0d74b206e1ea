/** What stands around the spans: above them the summary bar and notices, whose texts Python provides as for the other displays; below them the legend. */

/** @import { Child, Delta, Header, Notice, Session, State, Trace } from "./types.js" */

import { chevron, count, duration, h, kindMark, kindOf, markOf, plural, statusMark } from "./dom.js";
import { quantile } from "./trace.js";
import { sparkCanvas } from "./tree.js";

const STATUS = { ok: "finished", error: "failed", running: "running", stopped: "interrupted", cancelled: "cancelled", wrong: "has wrong rows", unclear: "not scored" };
/** Keys that the legend names; all others are behind `?`. */
const MAIN_KEYS = [["/", "search"]];
const KEYS = [
  ["↑ ↓  j k", "row above or below"], ["← →", "fold, unfold, to the parent"], ["Home End", "first or last row"],
  ["Enter", "to the details"], ["Esc", "back"], ["e", "next error"], ["/", "search"], ["d", "what changed since the run before"], ["*", "unfold all siblings"],
  ["w", "wide details"], ["f", "whole screen"], ["+ −", "good or bad"],
  ["c", "copy the span as JSON"], ["C", "copy the whole cell"], ["p", "copy as Python"], ["r", "run a model call again"], ["?", "these keys"],
];

/**
 * The elements of the summary bar. If they do not fit, facts are dropped from the right.
 * @param {Omit<Header, "facts"> & {facts: Child[]}} header
 * @param {{open: boolean | null, body: string, spark: boolean, diff: boolean, sign: string, toggle: () => void, jump: () => void, compare: () => void}} on
 *   `diff`: what changed is shown, so that the facts are those of both runs; `sign`: whether they differ
 */
export function summaryBar(header, on) {
  return [
    h("button", {
      class: "hh-toggle", type: "button", "aria-expanded": String(on.open), "aria-controls": on.body, "data-focus": "toggle",
      "aria-label": `${header.title}, ${STATUS[header.mark]}`, onclick: on.toggle,
    }, chevron(), on.diff ? h("span", { class: "hh-sign", "aria-hidden": "true" }, on.sign) : statusMark(header.mark), h("span", { class: "hh-name", title: header.title }, header.title)),
    on.diff ? "" : h("b", { class: "hh-duration" }, header.duration), on.diff ? "" : limit(header),
    h("span", { class: "hh-facts" }, header.facts.map((fact) => h("span", null, fact))),
    ...chips(header, on.jump), on.diff ? "" : delta(header.delta ?? null, on), h("span", { class: "hh-space" }), on.diff ? delta(null, on) : "",
    ...(on.diff ? [] : [on.spark && !header.delta ? sparkCanvas() : "", delivery(header), session(header.session) ?? ""]),
  ];
}

/** What the session has spent of its limit, with a bar. @param {Omit<Header, "facts">} header */
function limit({ limit: used, share }) {
  if (share === null) return "";
  return h("span", { class: "hh-meter", title: "Limit of the session's model calls" }, used, h("i", null, h("b", { style: { width: `${100 * share}%` } })));
}

/**
 * @param {Omit<Header, "facts">} header
 * @param {() => void} jump
 */
function chips(header, jump) {
  const [words, saved] = header.replayed.split(", saved ");
  return [
    header.stopped ? h("span", { class: "hh-chip hh-chip-error", title: "Model calls were not sent" }, header.stopped) : "",
    header.replayed ? h("span", { class: "hh-chip hh-chip-replayed", title: "Answered from a recording: no request, no cost" },
      markOf("replayed"), " ", words, saved ? h("span", { class: "hh-word" }, ", saved ", h("b", null, saved)) : null) : "",
    header.unrecorded ? h("button", {
      class: "hh-chip hh-chip-error", type: "button", title: "Jump to the call (e)", "data-focus": "unrecorded", onclick: jump,
    }, header.unrecorded) : "",
    header.errors ? h("button", {
      class: "hh-chip hh-chip-error", type: "button", title: "Jump to the error (e)", "data-focus": "error", onclick: jump,
    }, header.errors) : "",
    header.caught ? h("span", { class: "hh-chip hh-caught", title: "Raised inside a span and handled by your code" }, header.caught) : "",
    ...[header.cancelled, ...header.notes].map((note) => note && h("span", { class: "hh-chip hh-chip-warn" }, note)),
  ];
}

/**
 * What changed since the run before: a button that shows it, and back. Narrow views keep the calls.
 * @param {Delta | null} delta
 * @param {{diff: boolean, compare: () => void}} on
 */
function delta(delta, { diff, compare }) {
  if (!delta && !diff) return "";
  if (!delta) return h("button", { class: "hh-button", type: "button", title: "Back to the trace (Esc)", "aria-label": "Back to the trace", "data-focus": "delta", onclick: compare }, "Back");
  const part = (/** @type {"failed" | "time" | "tokens" | "cost" | "calls"} */ name) => delta[name] && h("span", { class: `hh-delta-${name}` }, delta[name]);
  return h("button", { class: "hh-delta", type: "button", title: delta.title, "data-focus": "delta", onclick: compare }, h("span", null, "Δ"), part("failed"), part("time"), part("tokens"), part("cost"), part("calls"));
}

/**
 * The delivery state: Sent, Sending 6, 12 of 14 sent, Not sent, Local only, Left to others, Read from file.
 * @param {Omit<Header, "facts">} header
 */
function delivery({ delivery: word, delivery_state: state, file }) {
  return h("span", { class: `hh-delivery hh-delivery-${state}`, role: "status", title: file ?? word },
    state === "sent" ? markOf("ok") : null, h("span", { class: state === "sent" ? "hh-word" : null }, word));
}

/**
 * A link if the URL is known, else a short id to copy.
 * @param {Session | null} session
 */
function session(session) {
  if (!session) return null;
  if (session.url) {
    return h("a", { class: "hh-session", href: session.url, target: "_blank", rel: "noopener noreferrer", "data-focus": "session" },
      "Open", h("span", { class: "hh-word" }, " session"), " ↗");
  }
  const short = session.id.slice(0, 8);
  const button = h("button", {
    class: "hh-session hh-id", type: "button", "data-focus": "session", title: `Session ${session.name ?? ""} ${session.id}: copy the id`,
  }, short);
  button.addEventListener("click", async () => {
    const copied = await navigator.clipboard?.writeText(session.id).then(() => true, () => false);
    // Without a clipboard, show the whole id for manual selection.
    button.textContent = copied ? "copied" : session.id;
    setTimeout(() => (button.textContent = short), copied ? 1200 : 20_000);
  });
  return button;
}

/** The error that left the cell, if no row shows it. @param {string} raised */
export const raisedRow = (raised) => h("div", { class: "hh-notice hh-notice-error" }, h("div", null, h("b", null, raised)));

/**
 * The notice: what happened to the spans, and the command to run next.
 * @param {Notice} notice
 * @param {boolean} canSend
 * @param {(type: "send" | "save") => void} act
 */
export function noticeRow(notice, canSend, act) {
  const button = (/** @type {"send" | "save"} */ type, /** @type {string} */ word) => h("button", { class: "hh-button", type: "button", "data-focus": type, onclick: () => act(type) }, word);
  return h("div", { class: `hh-notice hh-notice-${notice.kind}`, role: notice.kind === "error" ? "alert" : "status" },
    h("div", null, h("b", null, notice.title), " ", notice.text, notice.command ? [" ", h("code", null, notice.command)] : null,
      h("span", { class: "hh-reply", role: "status" })),
    canSend ? h("div", { class: "hh-acts" }, button("send", "Send"), button("save", "Save to file")) : null);
}

/**
 * What the bars of a trace mean, with its numbers: a word, and the sentence that it stands for.
 * @param {Trace} trace
 * @returns {[string, string][]}
 */
function explained({ spans, roots }) {
  const [root] = roots;
  const own = root.own.reduce((sum, [start, end]) => sum + end - start, 0);
  const first = spans.map((span) => span.first).filter((ms) => ms !== null).sort((a, b) => a - b);
  const critical = spans.filter((span) => span.critical.length).length;
  return [
    ["solid own work", `Time in which none of a span's children ran. ${duration(own)} of ${duration(root.end - root.start)} are ${root.name}'s own.`],
    ["pale waiting", "Time in which a span waited for its children or, a model call, for the first token."],
    .../** @type {[string, string][]} */ (first.length ? [["dotted first token", `When the first token arrived: after ${duration(quantile(first, 0.5))} in the middle of ${plural(first.length, "call")}.`]] : []),
    ["underlined critical path", `The spans that determine the total duration: a shorter one makes the whole shorter. ${count(critical)} of ${plural(spans.length, "span")} are on it.`],
    .../** @type {[string, string][]} */ (spans.some((span) => span.replayed) ? [["hollow replayed", "A recording answered the call: no request was sent."]] : []),
  ];
}

/** A word that explains itself on hover and focus. @param {string} id @param {[string, string]} entry */
const tip = (id, [word, sentence]) => h("span", { class: "hh-tip" },
  h("span", { class: "hh-word-of", role: "note", tabindex: 0, "aria-describedby": id, "data-focus": id }, word), h("span", { class: "hh-tipbox", id, role: "tooltip" }, sentence));

/**
 * The meaning of marks and bars, and the most important keys.
 * @param {string} uid prefix of DOM ids
 * @param {Trace} trace
 * @param {State} state of the view
 * @param {() => void} toggle opens and closes the list of keys
 */
export function legendItems(uid, trace, state, toggle) {
  const seen = new Map(trace.spans.map((span) => [kindOf(span.kind).word, span.kind]));
  const button = h("button", { class: "hh-keys-button", type: "button", "aria-expanded": String(state.keys), "data-focus": "keys", onclick: toggle },
    h("kbd", null, "?"), "keys");
  return [
    ...[...seen].map(([word, kind]) => h("span", { class: "hh-item" }, kindMark(kind), word)),
    h("span", { class: "hh-tips" }, explained(trace).map((entry, i) => tip(`${uid}-tip-${i}`, entry))),
    h("span", { class: "hh-end" }, MAIN_KEYS.map(([key, action]) => h("span", { class: "hh-item" }, h("kbd", null, key), action)), button),
    state.keys ? h("dl", { class: "hh-keys" }, KEYS.map(([key, action]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, action)))) : "",
  ];
}
