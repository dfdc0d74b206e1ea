"""From encoded bodies to the backend: order, requests, verdicts, second chances, counts."""
