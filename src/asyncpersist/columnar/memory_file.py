"""Files in memory, for bytes that Polars writes."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import BinaryIO

__all__ = ["memory_file"]


def memory_file() -> BinaryIO:
    """An unbuffered file, gone once it is closed.

    Unlike with `BytesIO`, other threads go on while bytes are copied in and out: that is what it is for.
    """
    if sys.platform == "linux":
        return open(os.memfd_create("asyncpersist"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
