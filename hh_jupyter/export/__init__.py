"""From an ended span to the backend: finalize, queue, spool, send."""
