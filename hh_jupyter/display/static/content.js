/** Elements for messages, JSON values, error and attributes of one span. All content is shown as text. */

/** @import { Attachment, Child, Details, Failure, Message, Span } from "./types.js" */

import { chevron, count, focusOn, h, plural } from "./dom.js";

const MAX_TEXT_SHOWN = 4000;
const MAX_VALUES = 600;
const MAX_ONE_LINE = 40;
const REDACTED = /(\[redacted: [^\]\n]{1,60}\])/;

/**
 * Text with chips for redacted values; long text is cut and has a button that shows all of it.
 * @param {string} value
 * @returns {Child}
 */
export function text(value) {
  const shown = value.length > MAX_TEXT_SHOWN ? value.slice(0, MAX_TEXT_SHOWN) : value;
  const parts = shown.split(REDACTED).map((part) => (REDACTED.test(part) ? mask(part) : part));
  const element = h("div", { class: "hh-text" }, parts);
  if (shown === value) return element;
  const more = h("button", { class: "hh-more", type: "button" }, `Show all ${count(value.length)} characters`);
  more.addEventListener("click", () => {
    element.textContent = value;
    more.remove();
  });
  return [element, more];
}

const mask = (/** @type {string} */ part) => h("span", { class: "hh-mask", title: "Redacted before it was shown, sent or saved" }, part.slice(1, -1));

/**
 * A JSON value, indented and colored.
 * @param {any} value
 */
export function json(value) {
  const left = { values: MAX_VALUES };
  const pre = h("pre", { class: "hh-json" }, nodes(value, "", left));
  if (left.values < 0) pre.append(`\n… ${plural(-left.values, "value")} more: copy the span to see all`);
  return pre;
}

/**
 * @param {any} value
 * @param {string} indent
 * @param {{values: number}} left
 * @returns {Child}
 */
function nodes(value, indent, left) {
  left.values -= 1;
  if (left.values < 0) return "…";
  if (typeof value === "string") return quoted(value);
  if (value === null || typeof value !== "object") return h("span", { class: "hh-number" }, String(value));
  const list = Array.isArray(value);
  const entries = Object.entries(value);
  if (!entries.length) return list ? "[]" : "{}";
  const deeper = `${indent}  `;
  const items = entries.map(([key, item], i) => [
    `\n${deeper}`, list ? null : [h("span", { class: "hh-key" }, JSON.stringify(key)), ": "],
    nodes(item, deeper, left), i < entries.length - 1 ? "," : "",
  ]);
  return [list ? "[" : "{", items, `\n${indent}${list ? "]" : "}"}`];
}

/**
 * @param {string} value
 * @returns {Child}
 */
function quoted(value) {
  const shown = value.length > MAX_TEXT_SHOWN ? value.slice(0, MAX_TEXT_SHOWN) : value;
  const parts = JSON.stringify(shown).split(REDACTED).map((part) => (REDACTED.test(part) ? mask(part) : part));
  return [h("span", { class: "hh-string" }, parts), shown === value ? null : h("span", { class: "hh-cut" }, ` ${count(value.length)} characters`)];
}

/** Text unchanged, everything else as JSON. */
export const value = (/** @type {unknown} */ data) => (typeof data === "string" ? h("div", { class: "hh-plain" }, text(data)) : json(data));

const section = (/** @type {string} */ title, /** @type {Child[]} */ ...children) => [h("div", { class: "hh-section" }, title), ...children];

/** @param {Details} details */
export function messages({ messages: list, images }) {
  return list?.map((message) => h("div", { class: `hh-message hh-role-${roleOf(message.role)}` },
    h("div", { class: "hh-role" }, message.role), body(message, images)));
}

/**
 * Attachments: images drawn from the reply's bytes, others as their label.
 * @param {Attachment[]} [list]
 * @param {DataView[]} [images]
 * @returns {Child}
 */
const attached = (list, images) => list?.map((one) => h("div", { class: "hh-attached" },
  one.image === undefined || !images ? null : thumb(images[one.image], one),
  h("span", { class: "hh-part" }, one.label), one.uri ? [" ", h("span", { class: "hh-uri" }, one.uri)] : null,
  one.note ? [" ", h("span", { class: "hh-cut" }, one.note)] : null));

/**
 * @param {DataView} bytes
 * @param {Attachment} one
 */
function thumb(bytes, one) {
  const button = h("button", {
    class: "hh-thumb", type: "button", title: "Show large", "aria-label": `Show large: ${one.label}`, onclick: () => enlarge(button, bytes, one),
  }, picture(bytes, one));
  return button;
}

/**
 * @param {DataView} bytes
 * @param {Attachment} one
 */
function picture(bytes, { label, mime }) {
  const url = URL.createObjectURL(new Blob([/** @type {any} */ (bytes)], { type: mime }));
  const free = () => URL.revokeObjectURL(url);
  return h("img", { alt: label, src: url, onload: free, onerror: free });
}

/**
 * Show an image as large as the view; Escape or a click closes it.
 * @param {HTMLElement} from
 * @param {DataView} bytes
 * @param {Attachment} one
 */
function enlarge(from, bytes, one) {
  const main = /** @type {HTMLElement} */ (from.closest(".hh-main"));
  const close = () => {
    box.remove();
    focusOn(from.isConnected ? from : main.querySelector(".hh-right"));
  };
  const button = h("button", { class: "hh-button", type: "button" }, "Close");
  const box = h("div", {
    class: "hh-large", role: "dialog", "aria-modal": "true", "aria-label": one.label, onclick: close,
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
      if (event.key === "Tab") event.preventDefault(); // The dialog has no other focusable element.
      if (event.key === "Escape") close();
    },
  }, h("div", { class: "hh-title" }, h("span", { class: "hh-name" }, one.label), h("span", { class: "hh-space" }), button), picture(bytes, one));
  main.append(box);
  focusOn(button);
}

const roleOf = (/** @type {string} */ role) => (["system", "developer", "user", "assistant", "tool"].includes(role) ? role : "other");

/**
 * @param {Message} message
 * @param {DataView[]} [images]
 */
function body(message, images) {
  const long = message.role === "system" || message.role === "developer";
  const content = message.text ? text(message.text) : null;
  return h("div", { class: "hh-content" },
    message.tool ? h("div", { class: "hh-tool-result" }, "result of ", h("b", null, message.tool)) : null,
    long && content && (message.text ?? "").trim().search(RegExp(`\\n|.{${MAX_ONE_LINE}}`)) >= 0 ? clamp(content) : content,
    message.data === undefined ? null : json(message.data),
    attached(message.attachments, images), message.parts?.map(json),
    (message.calls ?? []).map((call) => h("div", { class: "hh-call" },
      h("div", { class: "hh-call-head" }, h("b", null, call.name), call.id ? h("span", null, call.id) : null),
      call.arguments === null || call.arguments === undefined ? null : json(call.arguments))));
}

/**
 * Show one line of a long text such as a system prompt, with the mark of what unfolds; a click or Enter unfolds it.
 * @param {Child} content
 */
function clamp(content) {
  const toggle = () => {
    const full = box.classList.toggle("hh-full");
    box.setAttribute("aria-expanded", String(full));
    box.title = full ? "Show one line" : "Show all";
  };
  const box = h("div", {
    class: "hh-clamp", role: "button", tabindex: 0, title: "Show all", "aria-expanded": "false",
    onclick: () => String(getSelection()) || toggle(),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle();
    },
  }, chevron(), h("div", null, content));
  return box;
}

/**
 * @param {Failure} error
 * @param {Span} span
 * @param {unknown} input of the span
 */
export function failure(error, span, input) {
  const stack = error.stack || error.full_stack;
  const pre = h("pre", null, stack);
  const all = h("button", { class: "hh-more", type: "button" }, `Show ${plural(error.library_frames, "library frame")}`);
  all.addEventListener("click", () => {
    pre.textContent = error.full_stack;
    all.remove();
  });
  return [
    h("div", { class: span.error === "cancelled" ? "hh-note" : "hh-failure" }, error.type), text(error.message), errorPath(span),
    stack ? section(error.stack ? "Stack (your code only)" : "Stack", pre) : null,
    error.stack && error.library_frames ? all : null,
    input === undefined ? null : section("Input", value(input)),
  ];
}

/**
 * The path of the exception: where it was raised, which spans it propagated through, which one caught it. Spans that
 * raised another exception from it are named with that exception.
 * @param {Span} span
 */
export function errorPath(span) {
  /** @type {Span[]} */
  const through = [];
  let last = span;
  for (; last.passed && last.parent; last = last.parent) through.push(last.parent);
  const caught = !last.errors;
  const below = span.error === "propagated" && span.children.some((child) => child.passed);
  if (span.error === "cancelled" || !(through.length || caught || below)) return null;
  return h("p", { class: "hh-error-path" }, below ? span.tag ? "Raised from an error below" : "Raised below" : "Raised here",
    through.length ? ["; propagated through ", through.map(({ name, error, tag }, i) => [
      i ? ", then " : "", h("b", null, name), error === "propagated" && tag ? ` as ${tag}` : ""])] : null,
    caught ? [", caught in ", h("b", null, last.parent?.name ?? "your code")] : null, ".");
}

/** Where a long key may wrap: after a separator. */
const BREAKS = /(?<=[._:/-])(?=[^._:/-])/;

/** @param {[string, unknown][]} list known attributes first, as the kernel sorted them */
export function attributes(list) {
  return h("dl", { class: "hh-attributes" }, list.map(([name, data]) => [
    h("dt", null, name.split(BREAKS).map((part, i) => [i ? h("wbr", null) : null, part])), h("dd", null, typeof data === "string" ? text(data) : json(data)),
  ]));
}

/** @param {Details} details */
export function inputAndOutput(details) {
  return [
    details.input === undefined ? null : section("Input", value(details.input), attached(details.input_attachments, details.images)),
    details.documents?.length ? section(plural(details.documents.length, "document"), json(details.documents)) : null,
    details.output === undefined ? null : section("Output", value(details.output), attached(details.output_attachments, details.images)),
  ];
}

const asText = (/** @type {unknown} */ data) => (typeof data === "string" ? data : JSON.stringify(data, null, 2));

/** @type {(...lines: any[]) => string} */
const lines = (...lines) => lines.flat().filter(Boolean).join("\n");

const labels = (/** @type {Attachment[] | undefined} */ list) => list?.map(({ label, uri }) => `[${label}${uri ? ` ${uri}` : ""}]`);

/**
 * What a tab shows, in full, as text to paste into a message or a document.
 * @param {string} tab
 * @param {Details} details
 */
export function tabText(tab, { error, messages: list, attributes: known, ...details }) {
  if (tab === "Error" && error) {
    return lines(`${error.type}: ${error.message}`, error.full_stack, details.input === undefined ? "" : ["Input:", asText(details.input)]);
  }
  if (tab === "Messages") {
    return (list ?? []).map(({ role, tool, text: own, data, calls, attachments, parts }) => lines(
      tool ? `${role} (result of ${tool}):` : `${role}:`, own, data === undefined ? "" : asText(data), labels(attachments), parts?.map(asText),
      calls?.map((call) => `${call.name}(${asText(call.arguments ?? {})})`))).join("\n\n");
  }
  if (tab === "Attributes") return lines((known ?? []).map(([name, data]) => `${name}: ${asText(data)}`));
  return lines(details.input === undefined ? "" : ["Input:", asText(details.input), labels(details.input_attachments)],
    details.documents?.length ? ["Documents:", asText(details.documents)] : "",
    details.output === undefined ? "" : ["Output:", asText(details.output), labels(details.output_attachments)]);
}
