"""CSV without a header by Polars, of exactly the bytes that are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from asyncpersist.io.formats.format import Broken

__all__ = ["read_csv"]

_MISTAKEN = (b"\xef\xbb\xbf", b"\x1f\x8b", b"x\x01", b"x^", b"x\x9c", b"x\xda", b"\x28\xb5\x2f\xfd")
"""What Polars takes for a byte order mark or for compression where it comes first."""


def read_csv(
    data: bytes,
    schema: Mapping[str, pl.DataType],
    *,
    separator: str,
    quote: str | None,
    columns: Sequence[int] | None = None,
) -> pl.DataFrame:
    """All records, or of each the columns at some places. Raises `Broken`."""
    mistaken = data.startswith(_MISTAKEN)
    try:
        return pl.read_csv(
            b"\n" + data if mistaken else data,
            skip_rows=int(mistaken),
            has_header=False,
            schema=dict(schema),
            columns=columns,
            separator=separator,
            quote_char=quote,
            raise_if_empty=False,
        )
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise Broken from exc
