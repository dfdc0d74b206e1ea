"""Example: settings of hh_jupyter for every IPython and kernel that reads this file.

Any setting of the README's table that is not marked (1) can be set here. The settings apply however the extension is
loaded: with `%load_ext hh_jupyter` or `python -m hh_jupyter enable`.
"""

c = get_config()  # noqa: F821 - IPython defines it for configuration files.

c.HHJupyter.source = "staging"
c.HHJupyter.display = "line"
# c.HHJupyter.project = "support"
