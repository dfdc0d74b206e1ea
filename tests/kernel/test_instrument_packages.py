"""`%hh instrument` among installed packages of every kind: which library each is for, and which cannot be switched on.

The packages are made here, with the names, entry points and requirements of the published ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.kernel.driver import PROJECT, Kernel, kernel_with

INSTRUMENTOR = """
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
class Instrumentor(BaseInstrumentor):
    def instrumentation_dependencies(self):
        return {dependencies!r}
    def _instrument(self, **kwargs):
        pass
    def _uninstrument(self, **kwargs):
        pass
"""
MODULE = "opentelemetry.instrumentation"
OFFICIAL = "opentelemetry-instrumentation"
OPENLLMETRY, OFFICIALS = "0.62.4", "1.3b0"
PUBLISHED = [
    # package, entry point, module, what it instruments, version, the library's name
    (f"{OFFICIAL}-bedrock", "boto3", f"{MODULE}.bedrock", "boto3", OPENLLMETRY, "bedrock"),
    (
        f"{OFFICIAL}-google-generativeai",
        "google_generativeai",
        f"{MODULE}.google_generativeai",
        "google-genai",
        OPENLLMETRY,
        "google_genai",
    ),
    (f"{OFFICIAL}-haystack", "haystack-ai", f"{MODULE}.haystack", "haystack-ai", OPENLLMETRY, "haystack"),
    (
        f"{OFFICIAL}-vertexai",
        "google_cloud_aiplatform",
        f"{MODULE}.vertexai",
        "google-cloud-aiplatform",
        OPENLLMETRY,
        "vertexai",
    ),
    (f"{OFFICIAL}-sagemaker", "sagemaker", f"{MODULE}.sagemaker", "boto3", OPENLLMETRY, "sagemaker"),
    (f"{OFFICIAL}-boto3sqs", "boto3", f"{MODULE}.boto3sqs", "boto3", OFFICIALS, "boto3"),
    (f"{OFFICIAL}-genai-qwen-agent", "qwen-agent", f"{MODULE}.genai.qwen_agent", "qwen-agent", OFFICIALS, "qwen_agent"),
]
OF_OTHER_USES = frozenset({"boto3"})
CLIENT = "class Client:\n    def chat(self): ...\n"


def distribution(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    modules: Iterable[str] = (),
    requires: Iterable[str] = (),
    entry_points: str = "",
) -> None:
    """A distribution as pip leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    fields = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*fields, *(f"Requires-Dist: {each}" for each in requires), ""]))
    (info / "entry_points.txt").write_text(entry_points)
    for module in modules:
        path = folder / f"{module.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CLIENT)


def instrumentor(
    folder: Path, package: str, entry: str, module: str, extra: str, *, takes: str = "", version: str = "0.62.4"
) -> None:
    """An instrumentor as it is published.

    Args:
        folder: the distributions' one.
        package: its distribution.
        entry: the entry point's name.
        module: where it is.
        extra: the distribution that its metadata says it instruments.
        takes: what it requires when it is switched on; by default any version of that distribution.
        version: of the package.
    """
    requires = [f'{extra}; extra == "instruments"']
    if version == OPENLLMETRY:
        requires.append("opentelemetry-semantic-conventions-ai<0.6,>=0.5")
    path = folder / f"{module.replace('.', '/')}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(INSTRUMENTOR.format(dependencies=(takes or extra,)))
    points = f"[opentelemetry_instrumentor]\n{entry} = {module}:Instrumentor\n"
    distribution(folder, package, version, requires=requires, entry_points=points)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel beside whose own packages these are installed, with nothing switched on."""
    folder = tmp_path_factory.mktemp("packages")
    distribution(folder, "boto3")
    distribution(folder, "cohere", "5.0", modules=["cohere"])
    distribution(folder, "google-adk", "2.13", modules=["google.adk.telemetry.tracing"])
    distribution(folder, "google-cloud-aiplatform")
    distribution(folder, "google-genai")
    distribution(folder, "groq", "2.5")
    distribution(folder, "haystack-ai")
    distribution(folder, "ollama", "0.3")
    distribution(folder, "qwen-agent")
    distribution(folder, "strands-agents", modules=["strands.telemetry.tracer"])
    for package, entry, module, extra, version, _ in PUBLISHED:
        instrumentor(folder, package, entry, module, extra, version=version)
    adk = "openinference-instrumentation-google-adk"
    instrumentor(folder, adk, "google_adk", "openinference.instrumentation.google_adk", "google-adk")
    instrumentor(folder, f"{OFFICIAL}-groq", "groq", f"{MODULE}.groq", "groq", takes="groq >= 1.0, < 2")
    instrumentor(folder, f"{OFFICIAL}-ollama", "ollama", f"{MODULE}.ollama", "ollama", takes="ollama >= 0.4, < 1")
    instrumentor(folder, f"{OFFICIAL}-crewai", "crewai", f"{MODULE}.crewai", "crewai", takes="crewai >= 1")
    path = os.pathsep.join(map(str, (PROJECT, folder)))
    with kernel_with(tmp_path_factory.mktemp("kernel"), PYTHONPATH=path) as kernel:
        kernel.run(f"import sys; module = {MODULE!r}")
        yield kernel


@pytest.mark.parametrize(("entry", "version", "library"), [(row[1], *row[4:]) for row in PUBLISHED])
def test_an_instrumentor_is_found_under_its_librarys_name(
    kernel: Kernel, entry: str, version: str, library: str
) -> None:
    listed = kernel.run("%hh instrument --list").stdout.splitlines()
    rows = [line.split()[1:] for line in listed]
    family = {OPENLLMETRY: "OpenLLMetry", OFFICIALS: "OpenTelemetry"}[version]
    if library in OF_OTHER_USES:
        assert library not in [row[0] for row in rows]
    else:
        assert [library, "off", family, version] in rows, entry


def test_other_uses_of_a_librarys_package_do_not_match(kernel: Kernel) -> None:
    assert kernel.run("%hh instrument bedrock").stdout == "hh: tracing bedrock.\n"
    loaded = kernel.value("[name for name in ('bedrock', 'boto3sqs') if f'{module}.{name}' in sys.modules]")
    assert loaded == ["bedrock"]


def test_for_a_client_that_is_too_new_the_supported_versions_are_named(kernel: Kernel) -> None:
    assert kernel.run("%hh instrument groq").stdout == (
        "hh: groq is not traced: groq 2.5 is too new for opentelemetry-instrumentation-groq 0.62.4, which supports "
        "<2,>=1.0. %pip install -U opentelemetry-instrumentation-groq, or %pip install 'groq<2,>=1.0'\n"
    )


def test_for_a_client_that_is_too_old_or_missing_the_install_command_is_shown(kernel: Kernel) -> None:
    assert kernel.run("%hh instrument ollama").stdout == (
        "hh: ollama is not traced: ollama 0.3 is too old for opentelemetry-instrumentation-ollama 0.62.4, which "
        "supports <1,>=0.4. %pip install 'ollama<1,>=0.4'\n"
    )
    missing = kernel.run("%hh instrument crewai").stdout
    assert missing == "hh: crewai is not traced: crewai is missing. %pip install 'crewai>=1'\n"


@pytest.mark.parametrize("name", ["google_adk", "strands"])
def test_a_library_that_traces_itself_gets_no_instrumentor(kernel: Kernel, name: str) -> None:
    assert f"hh: {name} on its own tracing" in " ".join(kernel.run("%hh instrument --list").stdout.split())
    assert kernel.run(f"%hh instrument {name}").stdout == f"hh: tracing {name}.\n"
    off = kernel.run(f"%hh instrument --off {name}").stdout
    assert f"hh: {name} was not switched on with %hh instrument." in off


def test_a_library_that_uses_another_global_provider_is_reported_as_untraced(tmp_path: Path) -> None:
    distribution(tmp_path, "strands-agents", modules=["strands.telemetry.tracer"])
    with Kernel(tmp_path, {"PYTHONPATH": os.pathsep.join(map(str, (PROJECT, tmp_path)))}) as kernel:
        kernel.run("from opentelemetry import trace\ntrace.set_tracer_provider(trace.NoOpTracerProvider())")
        kernel.run("%load_ext hh_jupyter")
        assert kernel.run("%hh instrument strands").stdout == (
            "hh: strands is not traced: it uses OpenTelemetry's global provider, which is not the one of hh_jupyter.\n"
        )


def test_a_function_that_uses_an_untraced_library_causes_the_hint(kernel: Kernel) -> None:
    assert kernel.run("import cohere\nclient = cohere.Client()").stdout == ""
    hint = "hh: cohere is not traced. %hh instrument cohere\n"
    assert kernel.run("def ask():\n    return client.chat()\nask()").stdout == hint
