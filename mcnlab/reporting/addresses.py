"""Bytes of pictures and sounds as addresses that hold them."""

import base64

KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
MOST_BYTES = 8_000_000
"""Longer sounds are not sent to the browser."""


def picture_address(content: object) -> str:
    """A picture as a data address; empty for what is no PNG, JPEG or WebP.

    Example:
        >>> picture_address(b"GIF89a")
        ''
    """
    if not isinstance(content, bytes):
        return ""
    kind = next((name for start, name in KINDS.items() if content.startswith(start)), None)
    if kind == "image/webp" and content[8:12] != b"WEBP":
        return ""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if kind else ""


def sound_address(content: object) -> str:
    """A WAV file as a data address; empty for what is none, or is too long."""
    if not isinstance(content, bytes) or not content.startswith(b"RIFF") or len(content) > MOST_BYTES:
        return ""
    return f"data:audio/wav;base64,{base64.b64encode(content).decode()}"
