/** What the page saves of widgets. Run with `node --test tests/js`. */
import assert from "node:assert/strict";
import test from "node:test";

import { keepOutOfFiles, withoutOurs } from "../../hh_jupyter/display/static/widgets.js";

const widget = (state) => ({ model_name: "Model", state });
const SAVED = {
  hub: widget({ _anywidget_id: "hh_jupyter.display.hub.HubModel", layout: "IPY_MODEL_l1" }),
  view: widget({ _anywidget_id: "hh_jupyter.notebook.span_view.SpanView", layout: "IPY_MODEL_l2" }),
  l1: widget({}), l2: widget({ width: "100%" }), shared: widget({}),
  inner: widget({ children: ["IPY_MODEL_view", "IPY_MODEL_slider"], layout: "IPY_MODEL_shared" }),
  outer: widget({ children: ["IPY_MODEL_inner"] }),
  slider: widget({ value: 7, layout: "IPY_MODEL_shared" }),
  other: widget({ _anywidget_id: "quak.Widget" }),
};

test("our widgets, their layouts, and layouts around them are left out; other widgets stay", () => {
  assert.deepEqual(Object.keys(withoutOurs(SAVED)).sort(), ["other", "shared", "slider"]);
});

test("the manager saves without ours, however many of our modules asked for it", () => {
  let asked = 0;
  const manager = { get_state_sync: (options) => { asked += 1; return { version_major: 2, options, state: SAVED }; } };
  for (let time = 0; time < 3; time += 1) keepOutOfFiles(manager);
  const saved = manager.get_state_sync({ drop_defaults: true });
  assert.equal(asked, 1);
  assert.deepEqual([saved.version_major, saved.options], [2, { drop_defaults: true }]);
  assert.deepEqual(Object.keys(saved.state).sort(), ["other", "shared", "slider"]);
});

test("a front end with another manager is left alone", () => {
  keepOutOfFiles(undefined);
  keepOutOfFiles({});
});
