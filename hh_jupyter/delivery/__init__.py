"""Deliver ended spans to the backend: `route` and `pipeline` connect `sealing`, `spool` and `sending`."""
