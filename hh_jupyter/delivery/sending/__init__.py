"""Sends encoded bodies to the backend: ordering, requests, verdicts, retries and export counts."""
