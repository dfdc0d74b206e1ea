/** A request as a draft, and back: nothing that the user left alone may change on the way. */
import assert from "node:assert/strict";
import test from "node:test";

import { argumentsOf, changes, draftOf, parsed, textPlace } from "../../hh_jupyter/display/static/again.js";

const weather = { type: "function", function: { name: "get_weather", parameters: { properties: { city: {} }, required: ["city"] } } };
const image = { type: "image_url", image_url: { url: "https://example.org/x.png" } };
const REQUESTS = {
  chat: { arguments: {
    model: "gpt-4o", temperature: 0.2, stop: ["END"], user: "7", response_format: { type: "json_object" }, stream: true, tools: [weather],
    messages: [{ role: "system", content: "Be brief." }, { role: "user", content: [{ type: "text", text: "What is it?" }, image] },
      { role: "assistant", content: null, tool_calls: [{ id: "c1", type: "function", function: { name: "get_weather", arguments: "{}" } }] },
      { role: "tool", tool_call_id: "c1", content: "rain" }],
  }, messages_in: "messages", system_in: null },
  anthropic: { arguments: {
    model: "claude", max_tokens: 64, system: "Be brief.", tools: [{ name: "get_time", input_schema: {} }],
    messages: [{ role: "user", content: [{ type: "text", text: "Hello" }] }],
  }, messages_in: "messages", system_in: "system" },
  "blocks of a system prompt": { arguments: { model: "claude", system: [{ type: "text", text: "One." }, { type: "text", text: "Two." }], messages: [{ role: "user", content: "Hello" }] },
    messages_in: "messages", system_in: "system" },
  responses: { arguments: { model: "gpt-4.1", instructions: "Be brief.", input: "Hello", reasoning: { effort: "low" } }, messages_in: "input", system_in: "instructions" },
  "items of responses": { arguments: { model: "gpt-4.1", input: [{ role: "user", content: [{ type: "input_text", text: "Hello" }] }, { type: "function_call_output", call_id: "c1", output: "rain" }] },
    messages_in: "input", system_in: "instructions" },
  google: { arguments: { model: "gemini", contents: [{ role: "user", parts: [{ text: "Hello" }] }], tools: [{ function_declarations: [{ name: "get_time" }] }], top_k: 3 },
    messages_in: "contents", system_in: "system_instruction" },
};

for (const [name, request] of Object.entries(REQUESTS)) {
  test(`a draft that is left alone is the request: ${name}`, () => {
    assert.deepEqual(argumentsOf(request, draftOf(request, request.arguments)), request.arguments);
    assert.deepEqual(changes(request, request.arguments), []);
  });
}

test("a draft does not change the request that it was made of", () => {
  const draft = draftOf(REQUESTS.chat, REQUESTS.chat.arguments);
  draft.messages[0].value.content = "Be kind and brief.";
  draft.tools[0].offered = false;
  assert.equal(REQUESTS.chat.arguments.messages[0].content, "Be brief.");
  const changed = argumentsOf(REQUESTS.chat, draft);
  assert.equal("tools" in changed, false);
  assert.deepEqual(changes(REQUESTS.chat, changed), [["tools", "0 of 1"], ["system", "+2 words"]]);
});

test("an empty field is left out, and a text stays a text", () => {
  assert.equal(parsed("", 0.2), null);
  assert.equal(parsed("8", "7"), "8");
  assert.equal(parsed("0.7", 0.2), 0.7);
  assert.equal(parsed("high", undefined), "high");
  assert.deepEqual(parsed('["END"]', undefined), ["END"]);
});

test("only a message that is text alone is edited as text", () => {
  assert.equal(textPlace({ role: "user", content: "Hello" })[1], "content");
  assert.equal(textPlace({ role: "user", parts: [{ text: "Hello" }] })[1], "text");
  assert.equal(textPlace({ role: "user", content: [{ type: "text", text: "Hello" }, image] }), null);
  assert.equal(textPlace({ role: "assistant", content: "Wait", tool_calls: [] }), null);
  for (const odd of [null, undefined, {}, { content: 7 }, { content: [] }, { parts: "x" }, { content: [{ type: "tool_result", content: "rain" }] }, "text", 7]) assert.equal(textPlace(odd), null);
});

test("what is not JSON is said, not sent", () => {
  const draft = draftOf(REQUESTS.chat, REQUESTS.chat.arguments);
  draft.messages[2].json = "{";
  assert.throws(() => argumentsOf(REQUESTS.chat, draft), SyntaxError);
});
