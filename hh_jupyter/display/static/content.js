/** Elements for messages, JSON values, error and attributes of one span. All content is shown as text. */

/** @import { Attachment, Child, Details, Document, Failure, Message, Span, Tool } from "./types.js" */

import { chevron, copyText, count, focusOn, h, plural, toolButton } from "./dom.js";

const MAX_TEXT_SHOWN = 4000;
const MAX_VALUES = 600;
const MAX_ONE_LINE = 40;
/** A chat with more messages than this opens at its last ones. */
const MAX_MESSAGES = 6;
const LAST_MESSAGES = 4;
const MAX_PRETTY = 20_000;
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

/**
 * A button that shows and hides an element.
 * @param {string} name class
 * @param {HTMLElement} element hidden at first
 * @param {() => void} fill it when it is opened for the first time
 * @param {Child[]} words
 */
function opener(name, element, fill, ...words) {
  const button = h("button", {
    class: name, type: "button", "aria-expanded": "false", onclick: () => {
      if (!element.childElementCount) fill();
      element.hidden = !element.hidden;
      button.setAttribute("aria-expanded", String(!element.hidden));
    },
  }, words);
  return button;
}

const isSystem = (/** @type {Message} */ { role }) => role === "system" || role === "developer";

/**
 * The conversation. A long one opens at its newest messages, below the system prompt.
 * @param {Details} details
 * @returns {Child}
 */
export function messages({ messages: list = [], images }) {
  const shown = list.map((message, i) => h("div", { class: `hh-message hh-role-${roleOf(message.role)}` },
    h("div", { class: "hh-role" }, message.role), body(message, images),
    toolButton("copy", "Copy this message", ({ currentTarget }) => copyText(messageText(message), "Text", /** @type {any} */ (currentTarget), shown[i]), { "data-focus": `copy-${i}` })));
  const start = list.findIndex((message) => !isSystem(message));
  if (list.length - start <= MAX_MESSAGES) return shown;
  const earlier = h("div", { hidden: true }, shown.slice(start, -LAST_MESSAGES));
  const button = opener("hh-more hh-earlier", earlier, () => {}, chevron(), plural(earlier.childElementCount, "earlier message"));
  return [shown.slice(0, start), button, earlier, shown.slice(-LAST_MESSAGES)];
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
  const long = isSystem(message);
  const data = long ? undefined : structured(message.text ?? "");
  const content = data !== undefined ? json(data) : message.text ? text(message.text) : null;
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
 * The value of a text that is JSON; undefined for other texts, and where a number would lose digits.
 * @param {string} value
 * @returns {unknown}
 */
function structured(value) {
  if (!/^\s*[{[]/.test(value) || value.length > MAX_PRETTY || /\d{16}/.test(value)) return undefined;
  try {
    return JSON.parse(value);
  } catch {
    return undefined;
  }
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

// A request: parameters and tools.

/** @param {Child} head @param {Child} rows @param {string} name */
const grid = (name, head, rows) => h("table", { class: `hh-grid ${name}` }, head, h("tbody", null, rows));

/**
 * Parameters of a model call and the tools that were offered to it.
 * @param {Details} details
 * @returns {Child}
 */
export function request({ params = {}, tools = [], messages: list = [] }) {
  const called = new Set(list[list.length - 1]?.calls?.map(({ name }) => name));
  const rows = Object.entries(params).map(([name, data]) => h("tr", null, h("th", { scope: "row" }, breakable(name)),
    h("td", null, data !== null && typeof data === "object" ? json(data) : text(String(data)))));
  return [
    rows.length ? section("Parameters", grid("hh-attributes", null, rows)) : null,
    tools.length ? section("Tools", h("div", { class: "hh-quiet" }, `${count(tools.length)} offered, ${count(tools.filter(({ name }) => name && called.has(name)).length)} called`), tools.map(toolBox)) : null,
  ];
}

/** A tool as a signature and its description, with its JSON below. @param {Tool} tool */
function toolBox(tool) {
  const properties = tool.parameters?.properties ?? {};
  const required = new Set(Array.isArray(tool.parameters?.required) ? tool.parameters.required : []);
  const names = Object.entries(properties).map(([name, one]) => {
    const type = /** @type {any} */ (one)?.type;
    return `${name}${required.has(name) ? "" : "?"}${typeof type === "string" ? `: ${type}` : ""}`;
  });
  const full = h("div", { hidden: true });
  const button = opener("hh-more", full, () => full.append(json(tool)), "JSON");
  button.setAttribute("aria-label", `JSON of ${tool.name ?? "tool"}`);
  return h("div", { class: "hh-offered" }, button, h("div", { class: "hh-signature" }, h("b", null, tool.name ?? "tool"), `(${names.join(", ")})`),
    tool.description ? h("div", { class: "hh-quiet" }, text(tool.description)) : null, full);
}

// Documents.

const MAX_SOURCE = 60;
const SOURCES = ["source", "title", "file_name", "file", "path", "url", "name"];
const sourceOf = (/** @type {Document} */ { id, metadata }) => {
  const found = SOURCES.map((name) => metadata?.[name]).find((one) => typeof one === "string" && one) ?? id ?? "";
  return String(found).slice(-MAX_SOURCE);
};

/**
 * Number, score, source and the beginning of each document; a click on a row shows all of it.
 * @param {Document[]} list
 */
export function documents(list) {
  const scores = list.map(({ score }) => (typeof score === "number" ? score : null));
  const scored = scores.some((score) => score !== null);
  const known = scores.filter((score) => score !== null);
  const most = known.every((score) => score >= 0 && score <= 1) ? 1 : Math.max(...known);
  const sourced = list.some((one) => sourceOf(one));
  const rows = list.flatMap((one, i) => {
    const score = scores[i];
    const full = h("tr", { hidden: true });
    const fill = () => full.append(h("td", { colspan: 2 + Number(scored) + Number(sourced) }, value(one)));
    const open = opener("hh-open", full, fill, h("span", { class: "hh-two-lines" }, (one.text ?? JSON.stringify(one)).slice(0, 400)));
    return [h("tr", null, h("td", { class: "hh-quiet" }, String(i + 1)),
      scored ? h("td", null, score === null ? "" : h("span", { class: "hh-score" }, String(Number(score.toPrecision(3))),
        most > 0 && score >= 0 ? h("i", null, h("i", { style: { width: `${(score / most) * 100}%` } })) : null)) : null,
      sourced ? h("td", { class: "hh-source" }, breakable(sourceOf(one))) : null, h("td", null, open)), full];
  });
  const head = h("thead", null, h("tr", null, ["#", ...(scored ? ["Score"] : []), ...(sourced ? ["Source"] : []), "Text"].map((word) => h("th", { scope: "col" }, word))));
  return grid("hh-documents", head, rows);
}

// Attributes.

/** Where a long name may wrap: after a separator. */
const BREAKS = /(?<=[._:/-])(?=[^._:/-])/;
const breakable = (/** @type {string} */ name) => name.split(BREAKS).map((part, i) => [i ? h("wbr", null) : null, part]);

/** The first words of attribute names by the group that shows them; others are the user's. @type {[string, RegExp][]} */
const GROUPS = [
  ["Span", /^(event type|model( requested)?|provider|started|session|trace id|span id|instrumentation|status|evaluation .*)$/],
  ["Call", /^(gen_ai|llm|openinference|input|output|ai|embedding|reranker|retrieval|tool|tool_call|message|document|openai|anthropic|aws|mcp|langsmith|mlflow|langfuse)\b/],
  ["Server", /^(server|client|http|url|net|network|db|rpc|peer|user_agent|messaging|host|service|process|telemetry)\b/],
  ["Tracing", /^(honeyhive\.|honeyhive_event|honeyhive_(inputs|outputs|config)|hh_jupyter|traceloop|logfire|otel|code|thread|exception|error)/],
];

/** @param {[string, unknown][]} list known attributes first, as the kernel sorted them */
export function attributes(list) {
  /** @type {Map<string, Child[]>} */
  const groups = new Map([...GROUPS.map(([group]) => group), "Yours"].map((group) => [group, []]));
  for (const [name, data] of list) {
    const [group] = GROUPS.find(([, names]) => names.test(name)) ?? ["Yours"];
    groups.get(group)?.push(h("tr", null, h("th", { scope: "row" }, breakable(name)), h("td", null, typeof data === "string" ? text(data) : json(data))));
  }
  return h("table", { class: "hh-grid hh-attributes" }, [...groups].filter(([, rows]) => rows?.length).map(([group, rows]) => h("tbody", null,
    h("tr", { class: "hh-group" }, h("th", { colspan: 2, scope: "rowgroup" }, group)), rows)));
}

/** @param {Details} details */
export function inputAndOutput(details) {
  return [
    details.input === undefined ? null : section("Input", value(details.input), attached(details.input_attachments, details.images)),
    details.output === undefined ? null : section("Output", value(details.output), attached(details.output_attachments, details.images)),
  ];
}

const asText = (/** @type {unknown} */ data) => (typeof data === "string" ? data : JSON.stringify(data, null, 2));

/** @type {(...lines: any[]) => string} */
const lines = (...lines) => lines.flat().filter(Boolean).join("\n");

const messageText = (/** @type {Message} */ { text: own, data, calls, attachments, parts }) => lines(
  own, data === undefined ? "" : asText(data), labels(attachments), parts?.map(asText), calls?.map((call) => `${call.name}(${asText(call.arguments ?? {})})`));

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
    return (list ?? []).map((message) => lines(message.tool ? `${message.role} (result of ${message.tool}):` : `${message.role}:`, messageText(message))).join("\n\n");
  }
  if (tab === "Request") return lines(details.params ? ["Parameters:", asText(details.params)] : "", details.tools ? ["Tools:", asText(details.tools)] : "");
  if (tab === "Documents") return asText(details.documents);
  if (tab === "Attributes") return lines((known ?? []).map(([name, data]) => `${name}: ${asText(data)}`));
  return lines(details.input === undefined ? "" : ["Input:", asText(details.input), labels(details.input_attachments)],
    details.output === undefined ? "" : ["Output:", asText(details.output), labels(details.output_attachments)]);
}
