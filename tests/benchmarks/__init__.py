"""What tracing costs, as ratios to plain OpenTelemetry. Run it before and after a change that may be slower.

    python -m tests.benchmarks                the table, in about two minutes
    python -m tests.benchmarks --rounds 15    the same with less noise

Every round runs a fresh process with plain OpenTelemetry (SDK, batch processor, protobuf exporter) and one with this
package, each against a server of its own on this machine; a ratio is taken between neighbours, and the table shows the
median of the rounds with the smallest and the largest. Only ratios are worth comparing: a busy machine slows both.
Nothing here fails because something is slow, and pytest collects nothing here.

`caller` is CPU time on the thread of the traced code. `all` is the CPU time of the process until everything is sent,
against plain OpenTelemetry that records the same: type, session, arguments and result as JSON. `import + ready` and
`memory` are what a tracer adds to a process that has imported ipykernel.
"""
