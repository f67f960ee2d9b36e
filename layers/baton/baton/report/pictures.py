"""Pictures that stand inside the page: digits as PNG data URIs."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence


def digit_png(pixels: Sequence[float]) -> str | None:
    """Return a square picture of a row of pixels as a data URI, or None where the row is no square.

    The darkest ink is the row's largest pixel, whatever scale the data set has; the ground is transparent, so that it
    shows on light and dark pages alike.
    """
    side = math.isqrt(len(pixels))
    if side * side != len(pixels) or not side:
        return None
    low, high = min(pixels), max(pixels)
    scale = 255 / (high - low) if high > low else 0.0
    ink = bytes(round((pixel - low) * scale) for pixel in pixels)
    return "data:image/png;base64," + base64.b64encode(_png(side, ink)).decode()


def _png(side: int, ink: bytes) -> bytes:
    """Return a grey-and-alpha PNG whose alpha is the ink: https://www.w3.org/TR/png-3/"""
    lines = b"".join(b"\0" + _grey_alpha(ink[start : start + side]) for start in range(0, len(ink), side))
    header = struct.pack(">IIBBBBB", side, side, 8, 4, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _grey_alpha(ink: bytes) -> bytes:
    # A middle grey would wash out: black here, and the page turns it light where its ground is dark.
    return b"".join(bytes((0, alpha)) for alpha in ink)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
