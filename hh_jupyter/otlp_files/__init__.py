"""OTLP JSON files, and spans that our tracer did not record."""
