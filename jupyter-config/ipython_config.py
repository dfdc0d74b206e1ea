"""Example: settings of hh_jupyter for every IPython and kernel that reads this file.

Every setting of the README's table without (1) can stand here. They count wherever the extension is loaded, by
`%load_ext hh_jupyter` or by `python -m hh_jupyter enable`.
"""

c = get_config()  # noqa: F821 - IPython gives it to configuration files.

c.HHJupyter.source = "staging"
c.HHJupyter.display = "line"
# c.HHJupyter.project = "support"
