"""Plain text in UTF-8: every line is a row of the one column `data`, empty lines too, without its `\\n` or
`\\r\\n`.

And whole files: every file is a row, as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from asyncpersist.dtypes import DType
from asyncpersist.io.formats.format import BadRecord, Broken, Examined, Format, Head

__all__ = ["PlainText", "PlainTextByFile"]


class PlainText(Format):
    def __init__(self) -> None:
        self.columns = {"data": DType("str")}

    def definition(self) -> dict[str, Any]:
        return {"format": "plaintext"}

    def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
        if not data:
            return pl.DataFrame(schema={"data": pl.String()})
        try:
            text = pl.Series("data", [data[:-1]], dtype=pl.Binary()).cast(pl.String())
        except pl.exceptions.PolarsError as exc:
            raise Broken from exc
        lines = text.str.split("\n").explode()
        return (lines.str.strip_suffix("\r") if b"\r" in data else lines).to_frame()

    def record(self, text: bytes, layout: Any) -> Sequence[Any]:
        return [_decoded(text.removesuffix(b"\n").removesuffix(b"\r"))]


class PlainTextByFile(Format):
    whole_files = True

    def __init__(self) -> None:
        self.columns = {"data": DType("str")}

    def definition(self) -> dict[str, Any]:
        return {"format": "plaintext_by_file"}

    def head(self, start: bytes, *, complete: bool) -> Head | None:
        return Head(0)

    def cut(self, data: bytes) -> int:
        return 0

    def parse(self, data: bytes, layout: Any) -> pl.DataFrame:
        return pl.DataFrame({"data": self.record(data, layout)}, schema={"data": pl.String()})

    def record(self, text: bytes, layout: Any) -> Sequence[Any]:
        return [_decoded(text)]

    def examine(self, data: bytes, layout: Any) -> Examined:
        try:
            return Examined(self.parse(data, layout), 1, ())
        except Broken as exc:
            return Examined(pl.DataFrame(schema={"data": pl.String()}), 1, (BadRecord(0, 0, data, str(exc)),))


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as exc:
        raise Broken(f"not valid UTF-8: {exc}") from exc
