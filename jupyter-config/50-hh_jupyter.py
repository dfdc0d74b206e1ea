# Loads hh_jupyter in every IPython and kernel that reads this file.
# Written by `python -m hh_jupyter enable`; `python -m hh_jupyter disable` removes it.


def _start_hh_jupyter():
    """Load the extension; do nothing if it is not installed: every environment reads the file of a user's profile."""
    try:
        from importlib.util import find_spec

        spec = find_spec("hh_jupyter")
        if spec is not None and spec.origin is not None:  # None for an empty folder that an uninstall left behind.
            from hh_jupyter.notebook.autoload import start

            start(get_ipython())  # noqa: F821  # IPython defines it for startup files.
    except Exception as error:  # boundary: the kernel starts whatever is broken
        from logging import getLogger

        getLogger("hh_jupyter").warning("hh_jupyter is not loaded: %s: %s", type(error).__name__, error)


_start_hh_jupyter()
del _start_hh_jupyter
