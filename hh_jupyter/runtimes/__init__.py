"""Integrations for code outside a notebook: web servers, AWS Lambda, worker processes."""
