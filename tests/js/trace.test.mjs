/** The trace of the page, without a page. Run with `node --test tests/js`. */
import assert from "node:assert/strict";
import test from "node:test";

import { decode, foldFacts, isOpen, lanes, merged, quantile, visibleRows } from "../../hh_jupyter/display/static/trace.js";
import { count, duration, short } from "../../hh_jupyter/display/static/dom.js";

const state = (changes = {}) => ({ toggled: new Map(), query: "", onlyErrors: false, ...changes });

/** A trace from nested lists: [name, start, end, children, error]. */
function trace(...roots) {
  const spans = [];
  const add = ([name, start, end, children = [], error = ""], parent) => {
    const span = { id: `${spans.length}`, name, kind: "tool", model: "", start, end, parent, error, children: [], errors: 0, caught: 0, cancelled: 0, repeats: false, tokens: 1 };
    spans.push(span);
    span.children = children.map((child) => add(child, span));
    span.errors = Number(error === "uncaught") + span.children.reduce((sum, child) => sum + child.errors, 0);
    span.cancelled = Number(error === "cancelled") + span.children.reduce((sum, child) => sum + child.cancelled, 0);
    span.caught = Number(error === "caught") + span.children.reduce((sum, child) => sum + child.caught, 0);
    return span;
  };
  return { roots: roots.map((root) => add(root, null)), spans, end: Math.max(...spans.map((span) => span.end)) };
}

const shown = (rows) => rows.map((row) => `${" ".repeat(row.depth)}${row.span.name}${row.items ? `x${row.items.length}` : ""}`);
const calls = (times, error = "") => Array.from({ length: times }, (_, i) => ["call", i, i + 1, [], error]);

test("four adjacent repeats fold, three do not", () => {
  assert.deepEqual(shown(visibleRows(trace(["root", 0, 9, calls(4)]), state())), ["root", " callx4"]);
  assert.deepEqual(shown(visibleRows(trace(["root", 0, 9, calls(3)]), state())), ["root", " call", " call", " call"]);
});

test("an error is never inside a fold", () => {
  const children = [...calls(4), ...calls(1, "caught"), ...calls(4)];
  assert.deepEqual(shown(visibleRows(trace(["root", 0, 9, children]), state())), ["root", " callx4", " call", " callx4"]);
});

test("an opened fold shows its spans one level deeper", () => {
  const tree = trace(["root", 0, 9, calls(4)]);
  const open = state({ toggled: new Map([["fold-1", true]]) });
  assert.deepEqual(shown(visibleRows(tree, open)), ["root", " callx4", "  call", "  call", "  call", "  call"]);
});

test("the filter keeps what matches and its ancestors, unfolded", () => {
  const tree = trace(["root", 0, 9, [["a", 0, 1], ["b", 1, 2, calls(4)]]]);
  assert.deepEqual(shown(visibleRows(tree, state({ query: "CALL" }))), ["root", " b", "  call", "  call", "  call", "  call"]);
  assert.deepEqual(shown(visibleRows(tree, state({ query: "nothing" }))), []);
});

test("Errors shows spans in error and the spans above them", () => {
  const tree = trace(["root", 0, 9, [["a", 0, 1], ["b", 1, 2, [], "uncaught"]], "propagated"]);
  assert.deepEqual(shown(visibleRows(tree, state({ onlyErrors: true }))), ["root", " b"]);
});

test("cancelled spans are never inside a fold, and are no errors", () => {
  const tree = trace(["root", 0, 9, [...calls(3), ...calls(1, "cancelled"), ...calls(3)]]);
  assert.equal(visibleRows(tree, state()).some((row) => row.items), false);
  assert.deepEqual(shown(visibleRows(tree, state({ onlyErrors: true }))), []);
});

test("a call that other tracers describe too is closed, unless an error is below", () => {
  const tree = trace(["root", 0, 9, [["chat", 0, 8, [["client", 1, 7, [["transport", 2, 6]]]]]]]);
  tree.spans.slice(2).forEach((span) => (span.repeats = true));
  assert.deepEqual(shown(visibleRows(tree, state())), ["root", " chat"]);
  tree.spans[3].errors = 1;
  assert.deepEqual(shown(visibleRows(tree, state())), ["root", " chat", "  client", "   transport"]);
});

test("columns hold the role of an error, and whether it was passed on", () => {
  const bytes = (array) => new DataView(array.buffer);
  const columns = {
    id: ["u8", BigUint64Array.of(1n, 2n)], start: ["f8", Float64Array.of(0, 1)], duration: ["f4", Float32Array.of(9, 2)],
    depth: ["u2", Uint16Array.of(0, 1)], name: ["u1", Uint8Array.of(0, 0)], kind: ["u1", Uint8Array.of(0, 0)], model: ["u1", Uint8Array.of(0, 0)],
    tokens: ["u4", Uint32Array.of(1, 1)], first: ["f4", Float32Array.of(-1, -1)], state: ["u1", Uint8Array.of(32, 3 | 64 | 128)],
    own_span: ["u4", new Uint32Array()], own_start: ["f4", new Float32Array()], own_end: ["f4", new Float32Array()],
    critical_span: ["u4", new Uint32Array()], critical_start: ["f4", new Float32Array()], critical_end: ["f4", new Float32Array()],
  };
  const header = { columns: Object.entries(columns).map(([name, [type]]) => [name, type]), names: ["a"], kinds: ["llm"], models: [""], marks: {}, tags: {}, replays: {} };
  const { spans } = decode(header, Object.values(columns).map(([, array]) => bytes(array)));
  assert.deepEqual(spans.map(({ error, passed, repeats }) => [error, passed, repeats]), [["cancelled", false, false], ["propagated", true, true]]);
  assert.equal(spans[0].cancelled, 1);
});

test("a closed span hides what is below it", () => {
  const tree = trace(["root", 0, 9, [["a", 0, 1, [["b", 0, 1]]]]]);
  assert.deepEqual(shown(visibleRows(tree, state({ toggled: new Map([["1", false]]) }))), ["root", " a"]);
});

test("positions count siblings", () => {
  const rows = visibleRows(trace(["root", 0, 9, [["a", 0, 1], ["b", 1, 2]]]), state());
  assert.deepEqual(rows.map((row) => [row.position, row.size]), [[1, 1], [1, 2], [2, 2]]);
});

test("a wide span of a big trace starts closed, unless an error is below", () => {
  const wide = Array.from({ length: 400 }, (_, i) => [`s${i}`, i, i + 1]);
  const tree = trace(["root", 0, 400, [["quiet", 0, 400, wide], ["bad", 0, 400, [...wide, ["x", 0, 1, [], "uncaught"]], "propagated"]]]);
  const named = (name) => tree.spans.find((span) => span.name === name);
  assert.equal(isOpen(tree, state(), named("quiet")), false);
  assert.equal(isOpen(tree, state(), named("bad")), true);
  assert.equal(isOpen(tree, state(), tree.roots[0]), true);
});

test("a fold shows median, 95th percentile, maximum, sum", () => {
  const items = [10, 20, 30, 1000].map((ms) => ({ start: 0, end: ms, tokens: null }));
  assert.deepEqual(foldFacts(items), { p50: 20, p95: 1000, max: 1000, sum: 1060, tokens: null, start: 0, end: 1000 });
  assert.equal(quantile([1], 0.5), 1);
});

test("intervals too close to see the gap are merged", () => {
  assert.deepEqual(merged([[5, 6], [0, 1], [1.05, 2]], 0.1), [[0, 2], [5, 6]]);
});

test("parallel leaf spans are in separate lanes", () => {
  const tree = trace(["root", 0, 9, [["a", 0, 5], ["b", 1, 3], ["c", 3, 4], ["d", 5, 6]]]);
  assert.deepEqual(lanes(tree).map(({ span, lane }) => [span.name, lane]), [["a", 0], ["b", 1], ["c", 1], ["d", 0]]);
});

test("numbers have the same format as in the other displays", () => {
  assert.deepEqual([0, 0.01, 4.2, 340, 2384, 94_000, 7_500_000].map(duration), ["0 ms", "<0.1 ms", "4.2 ms", "340 ms", "2.38 s", "1m 34s", "2h 05m"]);
  assert.deepEqual([450, 1614, 352_400, 1_100_000].map(short), ["450", "1.6k", "352k", "1.1M"]);
});

test("whole numbers are grouped by thousands", () => {
  const numbers = [0, 7, 999, 1000, 12_345, 999_999, 1_234_567, -1234];
  assert.deepEqual(numbers.map(count), numbers.map((number) => number.toLocaleString("en-US")));
});
