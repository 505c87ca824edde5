"""Counting in large byte strings without holding up other threads, as `bytes.count` would for milliseconds."""

from __future__ import annotations

import numpy as np

__all__ = ["count_byte", "has_empty_line", "has_lone_return"]


def count_byte(data: bytes | memoryview, byte: bytes) -> int:
    """How often the one byte occurs."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == byte[0]))


def has_empty_line(data: bytes) -> bool:
    """Whether a line holds nothing but its line end."""
    buffer = np.frombuffer(data, np.uint8)
    if data.startswith((b"\n", b"\r\n")) or bool(((buffer[1:] == 10) & (buffer[:-1] == 10)).any()):
        return True
    return b"\r" in data and b"\n\r\n" in data


def has_lone_return(data: bytes) -> bool:
    """Whether a carriage return is followed by something else than a newline."""
    if b"\r" not in data:
        return False
    buffer = np.frombuffer(data, np.uint8)
    return bool((buffer[:-1] == 13)[buffer[1:] != 10].any()) or data.endswith(b"\r")
