"""Small pictures of every kind that is drawn, and of some that are not, made here."""

from __future__ import annotations

import base64
import struct
import zlib
from functools import cache
from typing import Final


@cache
def png(width: int = 640, height: int = 480, *, noise: int = 0) -> bytes:
    """A landscape: sky, sun and hills.

    Args:
        width, height: in pixels.
        noise: bytes after the end of the picture, which make the file larger and are not drawn.
    """
    hills = [0.62 + 0.12 * (4 * (x / width - 0.35) ** 2) + 0.05 * max(0.0, x / width - 0.55) for x in range(width)]
    rows = b"".join(b"\x00" + _row(hills, y / height) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks + bytes(i * 7919 % 251 for i in range(noise))


def _row(hills: list[float], y: float) -> bytes:
    sky, hill, sun = bytes((120 + int(80 * y), 175 + int(50 * y), 235)), b"\x4c\x8c\x5e", b"\xff\xd9\x66"
    pixels = [hill if y > top else sky for top in hills]
    for x in range(len(pixels)) if 0.17 < y < 0.39 else ():
        if (x / len(pixels) - 0.75) ** 2 + (y - 0.28) ** 2 < 0.012:
            pixels[x] = sun
    return b"".join(pixels)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def encoded(data: bytes) -> str:
    """Base64 as instrumentors write it."""
    return base64.b64encode(data).decode()


def data_uri(data: bytes, mime: str = "image/png") -> str:
    """The data in an address."""
    return f"data:{mime};base64,{encoded(data)}"


GIF: Final = base64.b64decode("R0lGODlhAwACAPAAAP8AAAAAACH5BAAAAAAALAAAAAADAAIAAAIDhG8FADs=")
"""3 x 2 pixels."""


JPEG: Final = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8yb"
    "qmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAF"
    "AAkDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFAEBAAAAAAAAAAAAAAAAAAAABf/EAB"
    "QRAQAAAAAAAAAAAAAAAAAAAAD/2gAMAwEAAhEDEQA/AJwB5V//2Q=="
)
"""9 x 5 pixels."""

WEBP: Final = base64.b64decode("UklGRjYAAABXRUJQVlA4ICoAAACwAQCdASoJAAUABABoJaACdLoABGaAAP7guX+LaR0KZD/4ILaj0w4gAAA=")
"""9 x 5 pixels."""

SVG: Final = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PDF: Final = b"%PDF-1.7\n" + bytes(range(256)) * 4
WAV: Final = b"RIFF\x24\x08\x00\x00WAVEfmt " + bytes(2_000)
