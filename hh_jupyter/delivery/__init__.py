"""From ended spans to the backend: `route` and `pipeline` put `sealing`, `spool` and `sending` together."""
