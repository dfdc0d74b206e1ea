"""The front end as the two texts that anywidget takes: one ES module and one style sheet."""

from __future__ import annotations

import base64
import re
import zlib
from functools import cache
from importlib.resources import files

MODULES = (
    "dom",
    "rows",
    "waterfall",
    "clipboard",
    "content",
    "detail",
    "tree",
    "summary",
    "legend",
    "view",
    "running",
    "theme",
    "outputs",
    "pulse",
    "questions",
    "kernel",
    "hub",
)
"""Static modules in the order of their imports: each uses only those before it."""

_LOADER = """const packed = "{packed}";
async function unpack() {{
  const bytes = Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const url = URL.createObjectURL(new Blob([await new Response(stream).text()], {{ type: "text/javascript" }}));
  const module = await import(url);
  URL.revokeObjectURL(url);
  return module.default;
}}
const unpacked = unpack();
const later = (name) => (context) => {{
  let over = false;
  const started = unpacked.then((module) => (over ? undefined : module[name](context)));
  return async () => {{
    over = true;
    (await started)?.();
  }};
}};
export default {{ initialize: later("initialize"), render: later("render") }};
"""
_IMPORT = re.compile(r"^import \{[^}]*\} from \"\./\w+\.js\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)
_TYPE_COMMENT = re.compile(r"/\*\* @type [^\n]*?\*/ ")
_DOC_COMMENT = re.compile(r"^[ \t]*/\*\*.*?\*/\n", re.MULTILINE | re.DOTALL)
_LINE_COMMENT = re.compile(r"^[ \t]*//.*\n", re.MULTILINE)
_INDENT = re.compile(r"\n\s+")


@cache
def script() -> str:
    """One ES module from the static ones, without their comments and indentation.

    There is no build step: the modules run as they are in node and in a browser, and joined they may not share a
    top-level name. No string in them spans lines, so that taking the indentation away changes nothing.
    """
    return "\n".join(_bare(_read(f"{name}.js")) for name in MODULES)


@cache
def packed_script() -> str:
    """The same module, unpacked by the browser: a third of the size, since a kernel's socket does not compress.

    It is loaded from a blob, as anywidget itself loads what it is given. Nothing waits for that: anywidget gives up for
    good a model that has not started after 2 s, which are soon over in a page that draws 200 outputs [measured].
    """
    return _LOADER.format(packed=base64.b64encode(zlib.compress(script().encode(), 9)).decode())


@cache
def style() -> str:
    """The style sheet of the interactive view, without comments and spaces that mean nothing."""
    bare = re.sub(r"/\*.*?\*/", "", _read("spans.css"), flags=re.DOTALL)
    tight = re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"\s+", " ", bare)).strip()
    # A colon with a space behind it is one of a declaration, never one of a selector.
    return tight.replace(": ", ":").replace(";}", "}")


def _read(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def _bare(source: str) -> str:
    for pattern in (_TYPE_COMMENT, _DOC_COMMENT, _LINE_COMMENT, _IMPORT, _EXPORT):
        source = pattern.sub("", source)
    return _INDENT.sub("\n", source).strip() + "\n"
