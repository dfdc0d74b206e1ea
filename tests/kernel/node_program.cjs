// A Node program on plain OpenTelemetry: two spans below the span that TRACEPARENT names, exported as the environment says.
const { context, propagation, trace } = require("@opentelemetry/api");
const { NodeSDK } = require("@opentelemetry/sdk-node");

const sdk = new NodeSDK();
sdk.start();
const parent = propagation.extract(context.active(), { traceparent: process.env.TRACEPARENT });
const tracer = trace.getTracer("shop");
tracer.startActiveSpan("list prices", {}, parent, (outer) => {
  tracer.startActiveSpan("look up tea", (inner) => {
    inner.setAttributes({ "item.price": 3.5, "item.tags": ["green", "loose"] });
    inner.end();
  });
  outer.end();
});
sdk.shutdown();
