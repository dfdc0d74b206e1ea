/**
 * A model call made again with changes: its request for editing, and the answers of the variants beside the original one. The
 * kernel runs them (notebook/again.py); only a click on Run, or Ctrl+Enter in the draft, requests that.
 */

/** @import { Again, Answered, Child, Draft, DraftMessage, Feedback, Message, Request, Span, State, Variant } from "./types.js" */

import { messages, tabText, text } from "./content.js";
import { feedbackTools, withFeedback } from "./detail.js";
import { chevron, copyText, flash, focusOn, h, kindMark, NO_ANSWER, plural, redraw, statusMark } from "./dom.js";
import { markedText } from "./words.js";

const ESTIMATE_DELAY_MS = 300;
const MAX_ROWS = 12;
const MAX_VALUE = 24;
const ROLES = ["system", "developer", "user", "assistant", "tool"];
const NOT_KEPT = "This call is no longer kept.";
const NO_KERNEL = "The kernel is busy or does not respond: nothing was sent.";

const isEqual = (/** @type {unknown} */ one, /** @type {unknown} */ other) => JSON.stringify(one) === JSON.stringify(other);
const wordsOf = (/** @type {string} */ value) => value.match(/\S+/g)?.length ?? 0;
const shown = (/** @type {unknown} */ value) => (typeof value === "string" ? value : JSON.stringify(value) ?? "");
const shortened = (/** @type {unknown} */ value) => (shown(value).length > MAX_VALUE ? `${shown(value).slice(0, MAX_VALUE - 1)}…` : shown(value));
const rowsOf = (/** @type {string} */ value) => Math.min(MAX_ROWS, value.split("\n").reduce((sum, line) => sum + 1 + Math.floor(line.length / 90), 0));

/**
 * The object and key that hold the text of a message: of Chat, Messages, Responses or Google's API; null if it is not text alone.
 * @param {any} message
 * @returns {[any, string] | null}
 */
export function textPlace(message) {
  if (message?.tool_calls || message?.function_call) return null;
  if (typeof message?.content === "string") return [message, "content"];
  const [part, ...others] = [message?.content ?? message?.parts ?? []].flat();
  const alone = part && !others.length && typeof part.text === "string" && (part.type ?? "text").endsWith("text");
  return alone ? [part, "text"] : null;
}

/** What a field says, as a JSON value. @param {string} value @param {unknown} was the recorded value, which decides what a number is */
export function parsed(value, was) {
  if (value === "") return null;
  if (typeof was === "string") return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

/** The name of an offered tool; empty if it has none. @param {any} tool */
const toolName = (tool) => tool?.function?.name ?? tool?.name ?? "";

/** The parameters of a tool: `(order_id, amount?)`. @param {any} tool */
function signature(tool) {
  const schema = tool.function?.parameters ?? tool.parameters ?? tool.input_schema ?? {};
  return `(${Object.keys(schema.properties ?? {}).map((name) => ([schema.required].flat().includes(name) ? name : `${name}?`)).join(", ")})`;
}

/**
 * A draft of these arguments, beside those of the original.
 * @param {Request} request @param {Record<string, any>} given
 * @returns {Draft}
 */
export function draftOf({ arguments: original, messages_in: into, system_in: system }, given) {
  const named = [...new Set([...Object.keys(original), ...Object.keys(given)])].filter((name) => ![into, system, "tools"].includes(name));
  const list = Array.isArray(given[into]) ? given[into] : [{ role: "user", content: given[into] ?? "" }];
  const before = Array.isArray(original[into]) ? original[into] : [{ role: "user", content: original[into] ?? "" }];
  const own = system && given[system] !== undefined ? [{ role: system, value: { role: system, content: given[system] }, was: { role: system, content: original[system] } }] : [];
  const tools = Array.isArray(original.tools) && original.tools.every(toolName) ? original.tools : null;
  const known = tools && Array.isArray(given.tools ?? []) && (given.tools ?? []).every((/** @type {any} */ tool) => tools.some((one) => isEqual(one, tool)));
  return {
    messages: [...own, ...list.map((value, i) => ({ role: "", value: structuredClone(value), was: before[i] }))],
    parameters: ["model", ...named.filter((name) => name !== "model")].map((name) => ({ name, value: shown(given[name] ?? ""), was: original[name] })),
    tools: known ? tools.map((value) => ({ value, offered: (given.tools ?? []).some((/** @type {any} */ one) => isEqual(one, value)) })) : null,
    json: known || given.tools === undefined ? null : JSON.stringify(given.tools, null, 2),
  };
}

/**
 * The arguments of a draft.
 * @param {Request} request @param {Draft} draft
 * @returns {Record<string, any>}
 * @throws {SyntaxError} a part of it is not JSON
 */
export function argumentsOf({ arguments: original, messages_in: into }, { messages: list, parameters, tools, json }) {
  const rest = list.filter(({ role }) => !role).map(({ value, json: edited }) => (edited === undefined ? value : JSON.parse(edited)));
  const offered = json !== null ? JSON.parse(json) : tools?.filter((tool) => tool.offered).map(({ value }) => value);
  return Object.fromEntries(Object.entries({
    ...Object.fromEntries(parameters.map(({ name, value, was }) => [name, name === "model" ? value : parsed(value, was)])),
    ...Object.fromEntries(list.filter(({ role }) => role).map(({ role, value, json: edited }) => [role, edited === undefined ? value.content : JSON.parse(edited)])),
    [into]: Array.isArray(original[into]) || rest.length !== 1 ? rest : rest[0].content,
    ...(offered?.length ? { tools: offered } : {}),
  }).filter(([, value]) => value !== null));
}

/**
 * What differs from the original, each as a name and a value.
 * @param {Request} request @param {Record<string, any>} given
 * @returns {[string, string][]}
 */
export function changes({ arguments: original, messages_in: into, system_in: system }, given) {
  const names = [...new Set([...Object.keys(original), ...Object.keys(given)])].filter((name) => !isEqual(original[name], given[name]));
  return names.flatMap((name) => {
    if (name === system) return [[name, wordChange(original[name], given[name])]];
    if (name === "tools") return [[name, `${given.tools?.length ?? 0} of ${original.tools?.length ?? 0}`]];
    if (name !== into) return [[name, given[name] === undefined ? "left out" : shortened(given[name])]];
    const [before, now] = [original[into], given[into]];
    if (!Array.isArray(before) || !Array.isArray(now)) return [["input", wordChange(before, now)]];
    const changed = now.filter((message, i) => !isEqual(message, before[i]));
    const [old, fresh] = changed.length === 1 && before.length === now.length ? [before[now.indexOf(changed[0])], changed[0]].map(textPlace) : [];
    if (old && fresh) return [[changed[0].role ?? "message", wordChange(old[0][old[1]], fresh[0][fresh[1]])]];
    return [["messages", before.length === now.length ? `${changed.length} changed` : `${before.length} → ${now.length}`]];
  });
}

/** `+5 words`, or `changed`. @param {unknown} before @param {unknown} now */
function wordChange(before, now) {
  const change = wordsOf(shown(now ?? "")) - wordsOf(shown(before ?? ""));
  return change ? `${change < 0 ? "−" : "+"}${plural(Math.abs(change), "word")}` : "changed";
}

export class RunAgain {
  /**
   * @param {string} uid prefix of DOM ids
   * @param {State} state of the view: keeps the draft
   * @param {{ask: Again, close: () => void, newCell: (code: string) => boolean, give: (span: string, given: Feedback) => Promise<string>}} on `newCell`: returns whether there is a new cell
   */
  constructor(uid, state, on) {
    this.uid = uid;
    this.state = state;
    this.on = on;
    /** @type {Request} from the kernel */
    this.request = /** @type {any} */ (undefined);
    this.estimate = /** @type {Request["estimate"] | null} */ (null);
    this.message = "";
    /** @type {{span: string, variant: Variant} | null} the last that the kernel sent of its own accord */
    this.latest = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.head = h("div", { class: "hh-again-head" });
    this.body = h("div", { class: "hh-again-body" });
    this.go = h("div", { class: "hh-go" });
    this.element = h("div", {
      class: "hh-again", role: "group", "aria-label": "Run again", tabindex: -1, onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
    }, this.head, this.body, this.go);
  }

  /** Show the request of a span; the kernel is asked for it. @param {Span} span @param {boolean} focus take the focus */
  async open(span, focus) {
    const { state } = this;
    state.again = state.again?.span === span.id ? { ...state.again, open: true } : { span: span.id, open: true, draft: null, folded: false, words: true };
    const own = state.again;
    redraw(this.head, kindMark("llm"), h("b", null, `Run again: ${span.name}`), h("span", { class: "hh-space" }), this.back());
    redraw(this.body, h("p", { class: "hh-pane hh-hint", role: "status" }, "Loading from the kernel…"));
    redraw(this.go);
    const request = await this.on.ask(span.id, "open").catch(() => null);
    if (state.again !== own) return;
    if (!request) {
      redraw(this.body, h("p", { class: "hh-pane hh-hint", role: "status" }, request === null ? "The request of this call is not kept, or the kernel does not respond." : ""));
      return;
    }
    this.request = { ...request, arguments: request.arguments ?? {} };
    // Its end may have come before the answer, which was written earlier.
    if (this.latest?.span === span.id && !this.latest.variant.running) this.keep(this.latest.variant);
    this.estimate = request.estimate;
    own.draft ??= draftOf(this.request, this.request.arguments);
    own.folded ||= request.variants.length > 0;
    this.message = "";
    this.draw();
    this.changed();
    if (focus) focusOn(this.element.querySelector("textarea") ?? this.element, true);
  }

  /** More of a variant's answer has arrived, or it has ended. @param {string} span @param {Variant} variant @param {{spent: string, raise: string}} limit */
  progress(span, variant, limit) {
    this.latest = { span, variant };
    if (!this.request || this.state.again?.span !== span) return;
    const shown = variant.running && this.request.variants.some(({ number }) => number === variant.number) && this.body.querySelector(`[data-variant="${variant.number}"]`);
    this.keep(variant);
    this.message = "";
    if (this.estimate) Object.assign(this.estimate, limit);
    if (!shown) {
      this.draw();
      return;
    }
    // The user may be typing in the draft: only what arrives is drawn.
    shown.querySelector(".hh-facts-line")?.replaceWith(this.facts(variant));
    shown.querySelector(".hh-variant-answer")?.replaceWith(this.answer(variant));
  }

  /** @param {Variant} variant */
  keep(variant) {
    this.request.variants = [...this.request.variants.filter(({ number }) => number !== variant.number), variant].sort((one, other) => one.number - other.number);
  }

  get draft() {
    return /** @type {Draft} */ (this.state.again?.draft);
  }

  get running() {
    return this.request.variants.find(({ running }) => running);
  }

  /** The arguments of the draft, or why there are none. @returns {{values?: Record<string, any>, problem?: string}} */
  get arguments() {
    try {
      return { values: argumentsOf(this.request, this.draft) };
    } catch {
      return { problem: "A message or the tools are not valid JSON." };
    }
  }

  // Drawing.

  draw() {
    const { request } = this;
    const { variants, remarks, name } = request;
    const folded = this.state.again?.folded;
    const { length, scrollLeft } = this.columns;
    redraw(this.head, kindMark("llm"), h("b", null, `Run again: ${name}`),
      h("span", { class: "hh-shown", role: "status" }, variants.length ? plural(variants.length, "variant") : "not sent yet"), h("span", { class: "hh-space" }),
      variants.some(({ pieces }) => pieces.length) ? this.wordsButton() : "",
      ...(folded ? [] : [
        this.button("Copy as Python", "python", "Copy the code of the draft, to run it in a cell", () => this.toCell(this.arguments.values, "python", false)),
        this.button("To a new cell", "cell", "The code of the draft in a new cell below, as from %hh edit", () => this.toCell(this.arguments.values, "cell")),
      ]), this.back());
    redraw(this.body, ...remarks.map((remark) => h("p", { class: "hh-hint hh-remark" }, remark)),
      variants.length ? h("div", { class: "hh-draft-line" },
        h("button", { class: "hh-fold", type: "button", "aria-expanded": String(!folded), "data-focus": "fold", onclick: () => this.fold(!folded) }, chevron(), "Draft"),
        h("span", { class: "hh-name hh-quiet" }, this.summary())) : "",
      folded ? "" : this.editor(), variants.length ? this.variants() : "");
    for (const area of this.body.querySelectorAll("textarea")) fitHeight(area);
    const list = this.body.querySelector(".hh-variants");
    if (list) list.scrollLeft = list.children.length > length ? list.scrollWidth : scrollLeft; // To the newest.
    this.drawGo();
  }

  /** How many columns are shown, and how far they are scrolled. */
  get columns() {
    const list = this.body.querySelector(".hh-variants");
    return { length: list?.children.length ?? 0, scrollLeft: list?.scrollLeft ?? 0 };
  }

  /** @param {boolean} folded */
  fold(folded) {
    if (this.state.again) this.state.again.folded = folded;
    this.draw();
  }

  back() {
    return h("button", {
      class: "hh-button", type: "button", "data-focus": "back", title: "The draft is kept (Esc)", "aria-label": "Back to the trace", onclick: () => this.on.close(),
    }, "Back", h("span", { class: "hh-word" }, " to the trace"));
  }

  /** Whether the words in which answers differ are marked. */
  wordsButton() {
    const button = this.button("Word differences", "words", "Mark the words that the original answer does not have", () => {
      if (this.state.again) this.state.again.words = !this.state.again.words;
      this.draw();
    });
    button.setAttribute("aria-pressed", String(Boolean(this.state.again?.words)));
    return button;
  }

  /** @param {string} word @param {string} focus @param {string} title @param {() => void} onclick @param {string} [more] class */
  button(word, focus, title, onclick, more = "") {
    return h("button", { type: "button", class: `hh-button ${more}`, "data-focus": focus, title, onclick }, word);
  }

  /** What the draft is, in one line. */
  summary() {
    const { values, problem } = this.arguments;
    const changed = values ? changes(this.request, values).filter(([name]) => name !== "model").map(([name, value]) => `${name} ${value}`) : [problem];
    return [values?.model, ...changed].filter(Boolean).join(", ");
  }

  editor() {
    const { request, draft, uid } = this;
    const list = Array.isArray(request.arguments[request.messages_in]);
    return h("div", { class: "hh-draft" },
      h("div", { class: "hh-pane" }, h("div", { class: "hh-section" }, "Messages"), draft.messages.map((message, i) => this.messageBox(message, i)),
        list ? h("button", { class: "hh-more", type: "button", "data-focus": "message", onclick: () => this.addMessage() }, "+ Message") : null),
      h("div", { class: "hh-pane hh-params" }, h("div", { class: "hh-section" }, "Parameters"),
        h("div", { class: "hh-params-fields" }, draft.parameters.map((one, i) => this.field(one, i))), this.moreParameters(), this.toolBoxes()),
      h("datalist", { id: `${uid}-models` }, request.models.map((model) => h("option", { value: model }))),
      h("datalist", { id: `${uid}-names` }, request.parameters.map((name) => h("option", { value: name }))));
  }

  /** @param {DraftMessage} message @param {number} index */
  messageBox(message, index) {
    const { draft } = this;
    const place = message.json === undefined ? textPlace(message.value) : null;
    const before = place && message.was !== undefined ? textPlace(message.was) : null;
    const role = message.role || message.value?.role || message.value?.type || "message";
    if (!place) message.json ??= JSON.stringify(message.role ? message.value.content : message.value, null, 2);
    const note = h("span", { class: "hh-quiet" });
    const undo = h("button", { class: "hh-more", type: "button", "data-focus": `undo-${index}`, onclick: () => {
      message.value = structuredClone(message.was);
      message.json = undefined;
      this.redrawn();
    } }, "Undo");
    const area = h("textarea", {
      class: place ? null : "hh-code", "aria-label": `${role} message ${index + 1}${place ? "" : " as JSON"}`, spellcheck: "false", "data-focus": `message-${index}`,
      oninput: () => {
        if (place) place[0][place[1]] = area.value;
        else message.json = area.value;
        mark();
        fitHeight(area);
        this.changed();
      },
    });
    area.value = place ? place[0][place[1]] : message.json ?? "";
    const mark = () => {
      const is = message.json === undefined ? !isEqual(message.value, message.was) : message.json !== JSON.stringify(message.role ? message.was?.content : message.was, null, 2);
      box.classList.toggle("hh-changed", is);
      undo.hidden = !is || message.was === undefined;
      note.textContent = !is ? "" : message.was === undefined ? "added" : before ? `changed, was ${plural(wordsOf(before[0][before[1]]), "word")}` : "changed";
    };
    const box = h("div", { class: "hh-edit" }, h("div", { class: "hh-edit-head" }, this.roleBox(message, role, mark), note, undo, h("span", { class: "hh-space" }),
      message.role ? null : h("button", {
        class: "hh-more", type: "button", title: `Remove this ${role} message`, "data-focus": `remove-${index}`,
        onclick: () => {
          draft.messages.splice(index, 1);
          this.redrawn();
        },
      }, "Remove")), area);
    mark();
    return box;
  }

  /** @param {DraftMessage} message @param {string} role @param {() => void} mark */
  roleBox(message, role, mark) {
    if (message.role || message.json !== undefined || !message.value.role) return h("b", null, role);
    const select = h("select", {
      class: "hh-field", "aria-label": "Role", tabindex: 0,
      onchange: () => {
        message.value.role = select.value;
        mark();
        this.changed();
      },
    }, [...new Set([role, ...(this.request.messages_in === "contents" ? ["user", "model"] : ROLES)])].map((one) => h("option", { value: one }, one)));
    select.value = role;
    return select;
  }

  addMessage() {
    const google = this.request.messages_in === "contents";
    this.draft.messages.push({ role: "", value: google ? { role: "user", parts: [{ text: "" }] } : { role: "user", content: "" }, was: undefined });
    this.redrawn();
    focusOn([...this.body.querySelectorAll(".hh-edit textarea")].pop() ?? null);
  }

  /** @param {Draft["parameters"][number]} one @param {number} index */
  field(one, index) {
    const id = `${this.uid}-parameter-${index}`;
    const was = one.was === undefined ? null : shown(one.was);
    const note = h("span", { class: "hh-before" });
    const input = h("input", {
      id, class: "hh-field", value: one.value, spellcheck: "false", autocomplete: "off", list: one.name === "model" ? `${this.uid}-models` : null, "data-focus": `parameter-${index}`,
      oninput: () => {
        one.value = input.value;
        mark();
        this.changed();
      },
    });
    const undo = h("button", { class: "hh-more", type: "button", "aria-label": `Undo ${one.name}`, onclick: () => {
      one.value = was ?? "";
      this.redrawn();
      focusOn(this.body.querySelector(`[data-focus="parameter-${index}"]`));
    } }, "Undo");
    const mark = () => {
      const is = one.value !== (was ?? "");
      row.classList.toggle("hh-changed", is);
      note.textContent = !is ? "" : was === null ? "added" : one.value ? `was ${shortened(was)}` : "left out";
      if (is && was !== null) note.append(undo);
    };
    const row = h("div", { class: "hh-param" }, h("label", { for: id }, one.name), input, note);
    mark();
    return row;
  }

  moreParameters() {
    const input = h("input", {
      class: "hh-field", placeholder: "+ Parameter", "aria-label": "Name of another parameter", list: `${this.uid}-names`, "data-focus": "more", autocomplete: "off",
      onchange: () => {
        const name = input.value.trim();
        if (!name || [...this.draft.parameters.map((one) => one.name), "tools", this.request.messages_in].includes(name)) return;
        this.draft.parameters.push({ name, value: "", was: undefined });
        this.redrawn();
        focusOn(this.body.querySelector(`[data-focus="parameter-${this.draft.parameters.length - 1}"]`));
      },
    });
    return h("div", { class: "hh-param" }, h("span"), input);
  }

  /** @returns {Child} */
  toolBoxes() {
    const { draft } = this;
    const { tools, json } = draft;
    if (!tools && json === null) return null;
    const count = h("span", { class: "hh-quiet" }, json === null && tools ? `${tools.filter((tool) => tool.offered).length} of ${tools.length} offered` : "");
    const toggle = h("button", { class: "hh-more", type: "button", "data-focus": "json", onclick: () => {
      draft.json = JSON.stringify(tools?.filter((tool) => tool.offered).map(({ value }) => value), null, 2);
      this.redrawn();
    } }, "JSON");
    const head = h("div", { class: "hh-section hh-sub" }, "Tools", count, h("span", { class: "hh-space" }), json === null ? toggle : null);
    if (json !== null || !tools) {
      const area = h("textarea", { class: "hh-code", "aria-label": "Tools as JSON", spellcheck: "false", "data-focus": "tools", oninput: () => {
        draft.json = area.value;
        this.changed();
      } });
      area.value = json ?? "";
      return [head, area];
    }
    return [head, tools.map((tool) => {
      const box = h("input", { type: "checkbox", checked: tool.offered, onchange: () => {
        tool.offered = box.checked;
        count.textContent = `${tools.filter((one) => one.offered).length} of ${tools.length} offered`;
        this.changed();
      } });
      return h("label", { class: "hh-check" }, box, h("span", { class: "hh-signature" }, h("b", null, toolName(tool.value)), signature(tool.value)));
    })];
  }

  // The original and the variants.

  variants() {
    const { request } = this;
    const { original, variants } = request;
    const { model } = request.arguments;
    return h("div", { class: "hh-variants", style: { "--hh-n": "" } }, [
      this.column("Original", h("span", null, model), original, null),
      ...variants.map((variant) => this.column(`Variant ${variant.number}`, changes(request, variant.arguments).map(([name, value]) => h("span", { class: "hh-chip" }, name, " ", h("b", null, value))), variant, variant)),
    ]);
  }

  /**
   * @param {string} title @param {Child} chips @param {Answered} answered
   * @param {Variant | null} variant null: the original
   */
  column(title, chips, answered, variant) {
    const { answer } = answered;
    const element = h("div", { class: "hh-variant", role: "group", "aria-label": title, "data-variant": variant?.number },
      h("div", { class: "hh-variant-head" }, variant?.running ? statusMark("running") : null, h("b", null, title), h("span", { class: "hh-space" }),
        variant?.running ? this.button("Stop", "stop", "Stop the call, as an interrupt of the kernel does", () => this.stop()) : null),
      h("div", { class: "hh-changes" }, chips && [chips].flat().length ? chips : h("span", null, "unchanged")),
      this.facts(answered), this.answer(answered),
      h("div", { class: "hh-acts" }, answer.length && !variant?.running ? this.button("Copy", `copy-${title}`, "Copy the answer", () => this.copy(answer, element)) : null,
        variant && !variant.running ? [
          this.button("Use as draft", `use-${title}`, "Edit the request of this variant", () => this.use(variant)),
          this.button("To a new cell", `cell-${title}`, "The code of this variant in a new cell below", () => this.toCell(variant.arguments, `cell-${title}`)),
          variant.span ? feedbackTools(variant.feedback, (given) => this.give(variant, given), `${title}-`) : null,
          variant.feedback?.note ? h("span", { class: "hh-hint" }, variant.feedback.note) : null,
        ] : null));
    return element;
  }

  /** Save feedback on a variant, and show it at once. @param {Variant} variant @param {Feedback} given */
  async give(variant, given) {
    const problem = await this.on.give(variant.span, given).catch(() => NO_ANSWER);
    if (!problem) {
      variant.feedback = withFeedback(variant.feedback, given);
      this.draw();
    }
    const status = this.body.querySelector(`[data-variant="${variant.number}"] .hh-unsaved`);
    if (problem && status) status.textContent = problem;
  }

  /** @param {Answered} answered */
  facts({ facts, running }) {
    return h("div", { class: "hh-facts-line" }, facts.map(([fact, change]) => h("span", null, h("b", null, fact), change ? ` ${change}` : null)),
      running ? h("span", { role: "status" }, "running") : null);
  }

  /** @param {Answered} answered */
  answer({ answer, pieces, problem, running }) {
    return h("div", { class: `hh-variant-answer${running ? " hh-arriving" : ""}` },
      pieces?.length && this.state.again?.words ? markedText(pieces, "new", false)
        : answer.map((message) => (message.text && !message.calls ? text(message.text) : messages({ messages: [message] }))),
      problem ? h("div", { class: "hh-failure", role: "alert" }, text(problem)) : null);
  }

  /** @param {Message[]} answer @param {HTMLElement} place */
  copy(answer, place) {
    const alone = answer.length === 1 && !answer[0].calls && answer[0].text;
    copyText(alone || tabText("Messages", { messages: answer }), "Answer", /** @type {HTMLElement} */ (place.querySelector(".hh-acts button")), place);
  }

  /** @param {Variant} variant */
  use(variant) {
    if (this.state.again) Object.assign(this.state.again, { draft: draftOf(this.request, variant.arguments), folded: false });
    this.redrawn();
  }

  // The row with the button.

  drawGo() {
    const { request, estimate, running, message } = this;
    const { problem } = this.arguments;
    const cost = estimate ? estimate.cost ?? ", cost unknown" : "";
    const why = request.problem ? [h("b", null, request.problem.title), ` ${request.problem.text} `, request.problem.command ? h("code", null, request.problem.command) : null]
      : estimate?.raise ? [h("b", null, estimate.spent), " To raise the limit: ", h("code", null, estimate.raise)] : problem ? [problem] : null;
    const button = h("button", {
      type: "button", class: "hh-button hh-primary", "data-focus": "run", disabled: Boolean(why || running), onclick: () => this.run(),
    }, `▶ Run${cost.startsWith(",") ? cost : `  ${cost}`}`.trimEnd());
    const facts = running ? `waits for variant ${running.number}, or stop it.` : [estimate?.text, request.client, estimate?.spent].filter(Boolean).join(" ");
    redraw(this.go, button, h("span", { class: "hh-quiet", role: "status" }, ...[message ? h("b", null, message) : why ?? facts].flat().filter((one) => one !== null)), h("span", { class: "hh-space" }),
      h("span", { class: "hh-item hh-key-hint" }, h("kbd", null, "Ctrl"), h("kbd", null, "Enter"), "runs"));
  }

  /** Draw the draft again after a change of its parts. */
  redrawn() {
    this.draw();
    this.changed();
  }

  /** The draft changed: ask what it costs once the typing pauses. */
  changed() {
    this.message = "";
    this.drawGo();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.askCost(), ESTIMATE_DELAY_MS);
  }

  async askCost() {
    const own = this.state.again;
    const { values } = this.arguments;
    if (!values || !own?.open || this.request.problem) return;
    const estimate = await this.on.ask(own.span, "estimate", values).catch(() => null);
    if (!estimate || this.state.again !== own || !isEqual(values, this.arguments.values)) return;
    this.estimate = estimate;
    this.drawGo();
  }

  // What the user does.

  async run() {
    const own = this.state.again;
    const { values } = this.arguments;
    if (!own || !values || this.running || this.request.problem || this.estimate?.raise || this.starting) return;
    this.starting = true;
    clearTimeout(this.timer);
    try {
      // A kernel without subshells reads messages when its cell has ended: what is sent must not wait there.
      this.estimate = await this.on.ask(own.span, "estimate", values);
      const { number, problem } = (await this.on.ask(own.span, "run", values)) ?? { problem: NOT_KEPT };
      this.message = problem ?? "";
      if (number) {
        const known = this.request.variants.some((variant) => variant.number === number);
        if (!known) this.request.variants.push({ number, arguments: values, facts: [], answer: [], pieces: [], problem: "", running: true, span: "", feedback: {} });
        own.folded = true;
      }
    } catch {
      this.message = NO_KERNEL;
    } finally {
      this.starting = false;
    }
    if (this.state.again === own) this.draw();
    if (!this.message) focusOn(this.element, true);
  }

  async stop() {
    await this.on.ask(/** @type {any} */ (this.state.again).span, "stop").catch(() => null);
  }

  /**
   * Put the code of a request into a new cell below; where none can be made, copy it.
   * @param {Record<string, any> | undefined} values @param {string} focus of the button @param {boolean} make a cell
   */
  async toCell(values, focus, make = true) {
    const code = values && (await this.on.ask(/** @type {any} */ (this.state.again).span, "code", values).catch(() => null));
    const button = /** @type {HTMLElement | null} */ (this.element.querySelector(`[data-focus="${focus}"]`));
    if (!button || !values) return;
    if (!code) {
      this.message = NOT_KEPT;
      this.drawGo();
    } else if (make && this.on.newCell(code)) flash(button, "In a new cell below");
    else await copyText(code, "Python", button, this.go);
  }

  /** Ctrl+Enter runs from inside the draft only; Escape goes back. None may reach the notebook. @param {KeyboardEvent} event */
  key(event) {
    event.stopPropagation();
    if (event.key === "Escape") this.on.close();
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && /** @type {Element} */ (event.target).closest(".hh-draft")) this.run();
    else return;
    event.preventDefault();
  }
}

/** Let a text area have the height of its text. @param {HTMLTextAreaElement} area */
function fitHeight(area) {
  area.rows = Math.max(2, rowsOf(area.value));
}
