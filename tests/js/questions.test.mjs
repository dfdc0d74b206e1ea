/** Which questions go to the kernel, and when, without a page or a kernel. Time is the test's. */
import assert from "node:assert/strict";
import test, { beforeEach, mock } from "node:test";

import { Kernel } from "../../hh_jupyter/display/static/kernel.js";

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
});

/** Let time pass, in steps: timers that are set meanwhile start then. */
function wait(seconds, meanwhile = () => {}) {
  for (let i = 0; i < seconds * 4; i += 1) {
    meanwhile();
    mock.timers.tick(250);
  }
}

/** A page that sees some views, and a model that notes what is sent to the kernel. */
function conversation(...seen) {
  const sent = [];
  const events = [];
  let say = () => {};
  const model = { on: (_, listener) => (say = listener), off: () => (say = () => {}), send: (message) => sent.push(message) };
  const note = (event) => events.push(event);
  const kernel = new Kernel(model, {
    told: { rows: ({ view }) => note(view) }, silent: () => note("silent"), heard: () => {},
    version: (view) => `version of ${view}`, inSight: (view) => seen.includes(view),
  });
  kernel.start();
  const rows = (view) => say({ type: "rows", view, header: {} });
  return { kernel, sent, events, rows, say: (message) => say(message), asked: () => sent.filter(({ type }) => type === "rows").map(({ view }) => view) };
}

const many = Array.from({ length: 200 }, (_, i) => `view-${i}`);

test("a question says which rows are known", () => {
  const { kernel, sent } = conversation();
  kernel.ask("a");
  assert.deepEqual(sent, [{ type: "rows", view: "a", have: "version of a" }]);
});

test("about one view one question is open, and one more follows if it changed meanwhile", () => {
  const { kernel, asked, rows } = conversation();
  for (let i = 0; i < 5; i += 1) kernel.ask("a");
  assert.deepEqual(asked(), ["a"]);
  rows("a");
  assert.deepEqual(asked(), ["a", "a"]);
  rows("a");
  assert.deepEqual(asked(), ["a", "a"]);
});

test("few questions are open in all, and each is put once", () => {
  const { kernel, asked, rows } = conversation();
  many.forEach((view) => kernel.ask(view));
  assert.equal(asked().length, 6);
  for (let answered = 0; answered < asked().length; answered += 1) {
    assert.ok(asked().length - answered <= 6);
    rows(asked()[answered]);
  }
  assert.deepEqual([...asked()].sort(), [...many].sort());
});

test("what is in sight comes first", () => {
  const { kernel, asked, rows } = conversation("view-150", "view-151");
  many.forEach((view) => kernel.ask(view));
  rows("view-0");
  rows("view-1");
  rows("view-2");
  assert.deepEqual(asked().slice(6), ["view-150", "view-151", "view-6"]);
});

test("a question that waits while the kernel speaks gives its place away and is put again, less and less often", () => {
  const { kernel, asked, say, rows } = conversation();
  many.slice(0, 7).forEach((view) => kernel.ask(view));
  const speaks = () => say({ type: "changed", view: "other" });
  wait(1, speaks);
  assert.equal(asked()[6], "view-6");
  rows("view-6");
  assert.equal(asked().filter((view) => view === "view-0").length, 2);
  wait(40, speaks);
  assert.equal(asked().filter((view) => view === "view-0").length, 6);
});

test("a silent kernel is given up, tried by single questions a few times, and no more", () => {
  const { kernel, asked, events } = conversation();
  many.forEach((view) => kernel.ask(view));
  wait(2);
  assert.deepEqual(events, []);
  wait(0.25);
  assert.deepEqual(events, ["silent"]);
  const before = asked().length;
  assert.ok(before <= 18, `${before} questions to a silent kernel`);
  for (let i = 0; i < 2400; i += 1) wait(0.25);
  assert.equal(asked().length - before, 4);
  kernel.ask("again");
  assert.equal(asked().length - before, 5);
});

test("a kernel that speaks again is asked for all that waited", () => {
  const { kernel, asked, rows, events } = conversation();
  many.slice(0, 3).forEach((view) => kernel.ask(view));
  wait(2.25);
  assert.deepEqual(events, ["silent"]);
  const before = asked().length;
  kernel.ask("more");
  rows("view-0");
  assert.deepEqual(asked().slice(before).sort(), ["more", "view-0", "view-1", "view-2"]);
});

test("a request to a silent kernel fails, and what is asked afterwards is still asked", async () => {
  const { kernel, asked, events } = conversation();
  const request = kernel.request({ type: "details", view: "a", span: "1" });
  wait(2.25);
  await assert.rejects(request, /no answer/);
  assert.deepEqual(events, ["silent"]);
  wait(60);
  kernel.ask("a");
  assert.deepEqual(asked(), ["a"]);
});

test("only a page that never heard anything says that it is deaf", () => {
  const { kernel, sent, rows } = conversation();
  const deaf = () => sent.filter(({ type }) => type === "deaf").length;
  kernel.ask("a");
  wait(2.25);
  assert.equal(deaf(), 1);
  rows("a");
  kernel.ask("a");
  wait(60);
  assert.equal(deaf(), 1);
});

test("a request has its own answer", async () => {
  const { kernel, sent, say, events } = conversation();
  const [one, two] = [kernel.request({ type: "details" }), kernel.request({ type: "python" })];
  say({ type: "answer", number: sent[1].number, value: "second" });
  say({ type: "answer", number: sent[0].number, value: "first" });
  assert.deepEqual(await Promise.all([one, two]), ["first", "second"]);
  wait(60);
  assert.deepEqual(events, []);
});

test("after the end nothing is asked and nobody waits", async () => {
  const { kernel, sent, events } = conversation();
  many.forEach((view) => kernel.ask(view));
  const request = kernel.request({ type: "details" });
  const before = sent.length;
  kernel.stop();
  await assert.rejects(request, /closed/);
  wait(600);
  assert.deepEqual([sent.length, events], [before, []]);
});
