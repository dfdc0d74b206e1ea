/** The live view without a kernel: it reads its data from the page, which `report_file.py` writes. */

/** @import { Header, Model } from "./types.js" */

import { initialize } from "./hub.js";

/**
 * The compressed data in an element. @param {string} id
 * @returns {Promise<ArrayBuffer>}
 */
async function unpacked(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id)?.textContent ?? ""), (char) => char.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

const decoded = (/** @type {ArrayBuffer | Uint8Array} */ bytes) => new TextDecoder().decode(bytes);

/** The headers and columns of all views, by id: a line of JSON, then the bytes of the columns. */
async function readViews() {
  const bytes = new Uint8Array(await unpacked("hh-views"));
  const end = bytes.indexOf(10);
  let offset = end + 1;
  /** @type {{id: string, header: Header, lengths: number[]}[]} */
  const views = JSON.parse(decoded(bytes.subarray(0, end)));
  return new Map(views.map(({ id, header, lengths }) => {
    const buffers = lengths.map((length) => {
      offset += length;
      return new DataView(bytes.buffer, offset - length, length);
    });
    return [id, { header, buffers }];
  }));
}

/** The spans by id, as OTLP JSON with the details that the kernel has derived. */
async function readSpans() {
  /** @type {Map<string, any>} */
  const spans = new Map();
  for (const line of decoded(await unpacked("hh-spans")).split("\n").filter(Boolean)) {
    for (const { scopeSpans } of JSON.parse(line).resourceSpans) {
      for (const scope of scopeSpans) for (const span of scope.spans) spans.set(span.spanId, span);
    }
  }
  return spans;
}

/** @param {any} value of an attribute @returns {unknown} */
function plainValue(value) {
  const { intValue, arrayValue, kvlistValue, ...other } = value ?? {};
  if (intValue !== undefined) return Number.isSafeInteger(Number(intValue)) ? Number(intValue) : intValue;
  if (arrayValue) return (arrayValue.values ?? []).map(plainValue);
  if (kvlistValue) return Object.fromEntries((kvlistValue.values ?? []).map((/** @type {any} */ pair) => [pair.key, plainValue(pair.value)]));
  return Object.values(other)[0] ?? null;
}

/**
 * The details of a span; attributes that are short are in the span only.
 * @param {any} span @returns {any} `Details`, with the images in base64
 */
function detailsOf({ details, attributes, startTimeUnixNano, traceId, spanId }) {
  const known = [["started", new Date(Number(startTimeUnixNano) / 1e6).toISOString()], ["trace id", traceId], ["span id", spanId]];
  const raw = (attributes ?? []).map((/** @type {any} */ pair) => [pair.key, plainValue(pair.value)]);
  const { preview, ...shown } = details ?? {};
  return { attributes: [...known, ...raw], ...shown };
}

/** The texts in a value, as the page shows them. @param {unknown} value @returns {string[]} */
const textsIn = (value) => (value === undefined || value === null ? [] : typeof value !== "object" ? [String(value)]
  : Array.isArray(value) ? value.flatMap(textsIn) : Object.entries(value).flatMap(([name, one]) => [name, ...textsIn(one)]));

const folded = (/** @type {string} */ text) => text.toLowerCase().split(/\s+/).filter(Boolean).join(" ");

/** @type {Map<any, string[]>} by span: its texts above the attributes, and those in them */
const texts = new Map();

/** The number of hits in a span, as display/search.py counts them. @param {any} span @param {string} wanted */
function hitsIn(span, wanted) {
  if (!texts.has(span)) {
    const { attributes, messages = [], error = {}, input, output, documents, params, tools, metrics, feedback } = detailsOf(span);
    const conversation = messages.map((/** @type {any} */ { role, text, data, parts, calls = [] }) => [role, text, data, parts,
      calls.map((/** @type {any} */ call) => [call.name, call.arguments])]);
    const above = [span.name, error.type, error.message, conversation, input, output, documents, params, tools, metrics, feedback];
    texts.set(span, [above, Object.fromEntries(attributes)].map((all) => textsIn(all).map(folded).join("\0")));
  }
  const [above, below] = /** @type {string[]} */ (texts.get(span)).map((text) => text.split(wanted).length - 1);
  return above || below;
}

const views = await readViews();
/** @type {Promise<Map<string, any>> | undefined} read when the first details are shown */
let spans;
/** @type {(message: object, buffers: DataView[]) => void} */
let receive = () => {};

initialize({ model: /** @type {Model} */ ({
  offline: true,
  get: () => undefined,
  on: (name, listener) => {
    if (name === "msg:custom") receive = listener;
  },
  off: () => {},
  async send({ type, view = "", span = "", spans: shown = [], text = "", number }) {
    if (type === "rows") {
      const { header, buffers } = views.get(view) ?? { header: null, buffers: [] };
      receive({ type, view, header }, buffers);
    } else if (type === "details") {
      const found = (await (spans ??= readSpans())).get(span);
      const { images = [], ...value } = found ? detailsOf(found) : {};
      const buffers = images.map((/** @type {string} */ image) => new DataView(Uint8Array.from(atob(image), (char) => char.charCodeAt(0)).buffer));
      receive({ type: "answer", number, value: found ? value : null }, buffers);
    } else if (type === "previews" || type === "search") {
      const all = await (spans ??= readSpans());
      const wanted = folded(text);
      const found = type === "previews" ? shown.map((id) => [id, all.get(id)?.details?.preview ?? ""])
        : [...(wanted ? all : [])].map(([id, one]) => [id, hitsIn(one, wanted)]).filter(([, hits]) => hits);
      const value = Object.fromEntries(found);
      receive({ type: "answer", number, value: type === "search" ? { hits: value, left: 0 } : value }, []);
    } else if (number) receive({ type: "answer", number, value: null }, []);
  },
}) });
