"""Example: load hh_jupyter in every notebook and terminal IPython of this profile, and set what should differ."""

c = get_config()  # noqa: F821 - IPython gives it to configuration files.

c.InteractiveShellApp.extensions.append("hh_jupyter")

# Every setting of the README's table without (1) can stand here.
# c.HHJupyter.source = "staging"
# c.HHJupyter.display = "line"
