"""What spans said, in the static HTML: something to open for each span, and plain text and images in it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from hh_jupyter.display.markup import escape, escape_block

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hh_jupyter.display.said import Image, Part, Said

_TEXT: Final = (
    "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0 8px;padding:0 0 0 14px;background:none;border:0;"
    "font-size:12px;line-height:1.45"
)

_IMAGE: Final = "max-height:240px;max-width:100%;margin:4px 8px 0 0;border-radius:4px"


def blocks(said: Iterable[Said], *, opened: bool) -> str:
    """One block each, opened or not."""
    return "".join(_block(one, opened=opened) for one in said)


def _block(said: Said, *, opened: bool) -> str:
    model = f" <small>{escape(said.model)}</small>" if said.model else ""
    text = "&#10;&#10;".join(map(_part, said.parts))
    return (
        f'\n<details{" open" if opened else ""} style="margin-top:6px"><summary style="cursor:pointer">'
        f'{escape(said.heading)}: {escape(said.name)}{model}</summary><pre style="{_TEXT}">{text}</pre></details>'
    )


def _part(part: Part) -> str:
    label = f"<b>{escape(part.label)}</b>&#10;" if part.label else ""
    images = "".join(map(_image, part.images))
    return label + escape_block(part.text) + (f"&#10;{images}" if images else "")


def _image(image: Image) -> str:
    """From its own bytes: no page fetches anything. JupyterLab's sanitizer keeps it [measured]."""
    data = base64.b64encode(image.data).decode()
    return f'<img src="data:{image.mime};base64,{data}" alt="{escape(image.label)}" style="{_IMAGE}">'
