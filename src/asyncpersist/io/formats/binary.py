"""Whole files as bytes: every file is a row of the one column `data`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.io.formats.format import Examined, Format, Head

__all__ = ["BinaryByFile"]


class BinaryByFile(Format):
    whole_files = True

    def __init__(self) -> None:
        self.columns = {"data": DType("bytes")}

    def definition(self) -> dict[str, Any]:
        return {"format": "binary"}

    def head(self, start: bytes, *, complete: bool) -> Head | None:
        return Head(0)

    def cut(self, data: bytes) -> int:
        return 0

    def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
        return pl.DataFrame({"data": [data]}, schema={"data": pl.Binary()})

    def record(self, text: bytes, layout: Any) -> Sequence[Any]:
        return [text]

    def examine(self, data: bytes, layout: Any) -> Examined:
        return Examined(self.parse(data, layout), 1, ())
