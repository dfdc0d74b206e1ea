"""`python -m hh_jupyter COMMAND`: what is done outside a kernel."""
