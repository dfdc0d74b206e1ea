"""The commands of `python -m hh_jupyter`."""
