"""Integrations do not import frameworks that the program does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = (
    "fastapi",
    "starlette",
    "flask",
    "werkzeug",
    "django",
    "asgiref",
    "uvicorn",
    "gunicorn",
    "distributed",
    "dask",
)
MODULES = {
    "hh_jupyter": (),
    "hh_jupyter.runtimes.asgi": (),
    "hh_jupyter.runtimes.wsgi": (),
    "hh_jupyter.runtimes.flask": (),
    "hh_jupyter.runtimes.django": ("asgiref",),  # Comes with Django and is not Django.
    "hh_jupyter.runtimes.aws_lambda": (),
    "hh_jupyter.runtimes.workers": (),
}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_does_not_import_frameworks(module: str) -> None:
    code = f"import sys, {module}\nprint(*(name for name in {FRAMEWORKS!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split()) == MODULES[module]


def test_traced_does_not_import_frameworks() -> None:
    code = (
        "import sys, pickle\nfrom hh_jupyter import HoneyHiveTracer\nfrom hh_jupyter.runtimes.workers import traced\n"
        "HoneyHiveTracer.init(test_mode=True)\npickle.dumps(traced(len))\nassert traced(len)('abc') == 3\n"
        f"print(*(name for name in {FRAMEWORKS!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_starting_a_tracer_does_not_import_rarely_used_modules() -> None:
    later = (
        "gzip",
        "hh_jupyter.runtimes.workers",
        "opentelemetry.sdk.trace.export",
        "opentelemetry.trace.propagation.tracecontext",
        "requests",
    )
    code = (
        "import sys\nfrom hh_jupyter import HoneyHiveTracer\nHoneyHiveTracer.init(test_mode=True)\n"
        f"print(*(name for name in {later!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
