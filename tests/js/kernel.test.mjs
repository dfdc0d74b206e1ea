/** Which requests go to the kernel, and when; without a page, a kernel or real time. */
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

/** A page on which some views are visible, and a model that records the messages to the kernel. */
function connection(...visible) {
  const sent = [];
  const events = [];
  let receive = () => {};
  const model = { on: (_, listener) => (receive = listener), off: () => (receive = () => {}), send: (message) => sent.push(message) };
  const note = (event) => () => events.push(event);
  const kernel = new Kernel(model, {
    rows: (view) => events.push(view), changed: () => {}, runningRows: () => {}, ended: () => {},
    unresponsive: note("unresponsive"), responsive: note("responsive"),
    version: (view) => `version of ${view}`, isVisible: (view) => visible.includes(view),
  });
  kernel.start();
  const rows = (view) => receive({ type: "rows", view, header: {} });
  return { kernel, sent, events, rows, receive: (message) => receive(message), requested: () => sent.filter(({ type }) => type === "rows").map(({ view }) => view) };
}

const many = Array.from({ length: 200 }, (_, i) => `view-${i}`);

test("a request names the version of the rows that the page has", () => {
  const { kernel, sent } = connection();
  kernel.requestRows("a");
  assert.deepEqual(sent, [{ type: "rows", view: "a", have: "version of a" }]);
});

test("a view has one open request, and one more follows if the view changed meanwhile", () => {
  const { kernel, requested, rows } = connection();
  for (let i = 0; i < 5; i += 1) kernel.requestRows("a");
  assert.deepEqual(requested(), ["a"]);
  rows("a");
  assert.deepEqual(requested(), ["a", "a"]);
  rows("a");
  assert.deepEqual(requested(), ["a", "a"]);
});

test("few requests are open at a time, and each is sent once", () => {
  const { kernel, requested, rows } = connection();
  many.forEach((view) => kernel.requestRows(view));
  assert.equal(requested().length, 6);
  for (let answered = 0; answered < requested().length; answered += 1) {
    assert.ok(requested().length - answered <= 6);
    rows(requested()[answered]);
  }
  assert.deepEqual([...requested()].sort(), [...many].sort());
});

test("visible views come first", () => {
  const { kernel, requested, rows } = connection("view-150", "view-151");
  many.forEach((view) => kernel.requestRows(view));
  rows("view-0");
  rows("view-1");
  rows("view-2");
  assert.deepEqual(requested().slice(6), ["view-150", "view-151", "view-6"]);
});

test("a request without a reply lets others pass and is sent again, with growing delays", () => {
  const { kernel, requested, receive, rows } = connection();
  many.slice(0, 7).forEach((view) => kernel.requestRows(view));
  const otherMessage = () => receive({ type: "changed", view: "other" });
  wait(1, otherMessage);
  assert.equal(requested()[6], "view-6");
  rows("view-6");
  assert.equal(requested().filter((view) => view === "view-0").length, 2);
  wait(40, otherMessage);
  assert.equal(requested().filter((view) => view === "view-0").length, 6);
});

test("an unresponsive kernel is left alone, but for a single request when a view is requested", () => {
  const { kernel, requested, events } = connection();
  many.forEach((view) => kernel.requestRows(view));
  wait(2);
  assert.deepEqual(events, []);
  wait(0.25);
  assert.deepEqual(events, ["unresponsive"]);
  const before = requested().length;
  assert.ok(before <= 18, `${before} requests to an unresponsive kernel`);
  wait(600);
  assert.equal(requested().length, before);
  kernel.requestRows("again");
  kernel.requestRows("and again");
  wait(600);
  assert.equal(requested().length, before + 1);
});

test("a kernel that responds again gets all queued requests", () => {
  const { kernel, requested, rows, events } = connection();
  many.slice(0, 3).forEach((view) => kernel.requestRows(view));
  wait(2.25);
  assert.deepEqual(events, ["unresponsive"]);
  const before = requested().length;
  kernel.requestRows("more");
  rows("view-0");
  assert.deepEqual(requested().slice(before).sort(), ["more", "view-0", "view-1", "view-2"]);
});

test("a request to an unresponsive kernel fails, and later requests are still sent", async () => {
  const { kernel, requested, events } = connection();
  const request = kernel.details("a", "1");
  wait(2.25);
  await assert.rejects(request, /no reply/);
  assert.deepEqual(events, ["unresponsive"]);
  wait(60);
  kernel.requestRows("a");
  assert.deepEqual(requested(), ["a"]);
});

test("only a page that never received a message requests another model", () => {
  const { kernel, sent, rows } = connection();
  const reopens = () => sent.filter(({ type }) => type === "reopen").length;
  kernel.requestRows("a");
  wait(2.25);
  assert.equal(reopens(), 1);
  rows("a");
  kernel.requestRows("a");
  wait(60);
  assert.equal(reopens(), 1);
});

test("each request gets its own reply", async () => {
  const { kernel, sent, receive, events } = connection();
  const [one, two] = [kernel.details("a", "1"), kernel.python("a", "1")];
  receive({ type: "answer", number: sent[1].number, value: "second" });
  receive({ type: "answer", number: sent[0].number, value: "first" });
  assert.deepEqual(await Promise.all([one, two]), ["first", "second"]);
  wait(60);
  assert.deepEqual(events, []);
});

test("after the stop nothing is sent and open requests fail", async () => {
  const { kernel, sent, events } = connection();
  many.forEach((view) => kernel.requestRows(view));
  const request = kernel.details("a", "1");
  const before = sent.length;
  kernel.stop();
  await assert.rejects(request, /closed/);
  wait(600);
  assert.deepEqual([sent.length, events], [before, []]);
});
