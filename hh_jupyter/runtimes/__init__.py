"""Where code runs outside a notebook: web servers, AWS Lambda, worker processes. Each module imports alone."""
