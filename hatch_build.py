"""Makes the README's addresses absolute for the description on a package index, which has no files beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^]]*)\]\((?![a-z]+:|#)([^)]+)\)")


class DescriptionHook(MetadataHookInterface):
    """Sets the field `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the description to the metadata of pyproject.toml."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        metadata["readme"] = {"content-type": "text/markdown", "text": description(text, source)}


def description(readme: str, source: str | None) -> str:
    """Return the README with absolute addresses.

    Args:
        readme: with addresses relative to the repository.
        source: address of the repository, which is `Source` in `[project.urls]`. Without one, images and links become
            their text.
    """

    def absolute(link: re.Match[str]) -> str:
        image, text, address = link.groups()
        if source is None:
            return f"*{text}*" if image else text
        return f"{image}[{text}]({source.rstrip('/')}/{'raw' if image else 'blob'}/HEAD/{address})"

    return _LINK.sub(absolute, readme)
