# Loads hh_jupyter in every IPython and kernel that reads this file.
# Written by `python -m hh_jupyter enable`; `python -m hh_jupyter disable` removes it.


def _start_hh_jupyter():
    """Silent where the package is gone: a file in a user's profile is read in every environment."""
    try:
        from importlib.util import find_spec

        spec = find_spec("hh_jupyter")
        if spec is not None and spec.origin is not None:  # A folder that an uninstall left has none.
            from hh_jupyter.cli.autoload import start

            start(get_ipython())  # noqa: F821  # IPython gives it to startup files.
    except Exception as error:  # boundary: whatever is broken, the kernel starts
        from logging import getLogger

        getLogger("hh_jupyter").warning("hh_jupyter is not loaded: %s: %s", type(error).__name__, error)


_start_hh_jupyter()
del _start_hh_jupyter
