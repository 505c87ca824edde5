"""The one owner of hashing. Hashes are part of the format of state files: equal over processes and versions.

The hash of a value, by its Polars type:

| type | hash |
|---|---|
| String, Binary, Categorical, Enum | xxh3_64 of the bytes (UTF-8) with the seed |
| Boolean, integers, what is stored as such (Datetime, Duration, ...) | `mix` of the value in 64 bits |
| Float32, Float64 | `mix` of the bits as Float64; -0.0 counts as 0.0 and every NaN as one |
| UInt128, Int128 | the high and the low half, combined like two columns |
| Struct | its fields, combined like columns |
| List, Array | items and their positions, summed, with the length |
| None of any type | a constant |

`mix` is the finaliser of splitmix64 over the seed added to the value. Columns are combined in order, modulo
2**64: `h = h * 0x9E3779B97F4A7C15 + hash(column)`, from 0. So the hash of one column is that of its values.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh

from asyncpersist.columnar.delta import ID

__all__ = ["hash_columns", "id_halves", "id_of", "join_halves", "row_ids", "split_halves"]

Hashes = npt.NDArray[np.uint64]

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_NONE = 0xA0761D6478BD642F
_NAN = np.uint64(0x7FF8000000000000)
_PLACES = 0x589965CC75374CC3
"""Positions are mixed under another seed than items: else [0, 0] and [1, 1] would be the same sum."""
_HALF = pl.lit(2**64, dtype=pl.UInt128)
_ID_SEEDS = (0x8BB84B93962EACC9, 0x2D358DCCAA6C78A5)


def hash_columns(frame: pl.DataFrame, columns: Sequence[str], *, bits: int = 64) -> Hashes:
    """One stable hash per row over `columns`; zeros where there are none.

    `bits` below 64 keeps only that many low bits, with which tests force collisions.
    Raises `TypeError` for a column type that has no rule.
    """
    hashes = _combined([frame[name] for name in columns], frame.height, seed=0)
    if bits < 64:
        hashes &= np.uint64((1 << bits) - 1)
    return hashes


def id_of(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """One stable 128-bit id per row over `columns`, a UInt128 series named `ID`: hashes under two seeds."""
    return join_halves(*id_halves(frame, columns))


def id_halves(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[Hashes, Hashes]:
    """The ids that `id_of` gives, as their high and their low halves: for who compares them and no more."""
    series = [frame[name] for name in columns]
    high, low = (_combined(series, frame.height, seed=seed) for seed in _ID_SEEDS)
    return high, low


def join_halves(high: Hashes, low: Hashes) -> pl.Series:
    """The ids of these halves, a UInt128 series named `ID`."""
    expression = pl.col("high").cast(pl.UInt128) * _HALF + pl.col("low").cast(pl.UInt128)
    return pl.DataFrame({"high": high, "low": low}).select(expression.alias(ID)).to_series()


def split_halves(ids: pl.Series) -> tuple[Hashes, Hashes]:
    """The high and the low halves of UInt128 values, none of which is None."""
    halves = (
        ids.alias("id")
        .to_frame()
        .select(high=(pl.col("id") // _HALF).cast(pl.UInt64), low=pl.col("id").cast(pl.UInt64, wrap_numerical=True))
    )
    return halves["high"].to_numpy(), halves["low"].to_numpy()


def row_ids(identity: str, partition: str, first: int, count: int) -> pl.Series:
    """Ids of `count` rows that have nothing but their place, a UInt128 series named `ID`.

    The high half is a hash of the source's `identity` and the `partition`, the low half the position, from
    `first` on: within a partition, ids sort as the rows lie.
    """
    place = f"{len(identity)}:{identity}{partition}".encode("utf-8", "surrogatepass")
    high = int.from_bytes(hashlib.blake2b(place, digest_size=8).digest(), "little")
    low = pl.int_range(first, first + count, dtype=pl.UInt64)
    shifted = pl.lit(high << 64, dtype=pl.UInt128)
    return pl.select((low.cast(pl.UInt128) + shifted).alias(ID)).to_series()


def _combined(series: Sequence[pl.Series], height: int, *, seed: int) -> Hashes:
    """New array; the caller may write into it."""
    if not series:
        return np.zeros(height, np.uint64)
    hashes = _hash(series[0], seed)
    for column in series[1:]:
        hashes *= _FACTOR
        hashes += _hash(column, seed)
    return hashes


def _hash(column: pl.Series, seed: int) -> Hashes:
    """The hashes of one column, as a new array."""
    dtype = column.dtype
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return _hash(column.cast(pl.String), seed)
    if dtype in (pl.String, pl.Binary):
        # Under a fixed name: a name that looks like a pattern would be taken as one.
        frame = column.alias("").to_frame()
        values = frame.select(_xxh3(seed)).to_series()
        return _own(values.fill_null(_NONE) if column.null_count() else values)
    if dtype == pl.Null:
        return np.full(len(column), _NONE, np.uint64)
    if isinstance(dtype, pl.Struct):
        hashes = _combined(column.struct.unnest().get_columns(), len(column), seed=seed)
    elif isinstance(dtype, (pl.List, pl.Array)):
        hashes = _hash_lists(column.arr.to_list() if isinstance(dtype, pl.Array) else column, seed)
    elif dtype in (pl.UInt128, pl.Int128):
        hashes = _hash_halves(column, seed)
    else:
        hashes = _mix(_bits(column), seed)
    if column.null_count():
        hashes[column.is_null().to_numpy()] = _NONE
    return hashes


@functools.cache
def _xxh3(seed: int) -> pl.Expr:
    hashed: pl.Expr = plh.col("").nchash.xxh3_64(seed=seed)
    return hashed


def _bits(column: pl.Series) -> Hashes:
    """What `mix` is applied to, as a new array; anything at all where the column is None."""
    if column.dtype.is_float():
        values = column.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0
        bits = values.view(np.uint64)
        bits[np.isnan(values)] = _NAN
        return bits
    if column.dtype == pl.UInt64:
        return _own(column.fill_null(0))
    if column.dtype == pl.Boolean or column.dtype.is_integer() or column.dtype.is_temporal():
        return _own(column.to_physical().cast(pl.Int64).fill_null(0)).view(np.uint64)
    raise TypeError(f"column {column.name!r} has the type {column.dtype}, for which there is no hash")


def _own(column: pl.Series) -> npt.NDArray[Any]:
    # Not `to_numpy(writable=True)`, which gives the column's own memory where all chunks but one are empty.
    return column.to_numpy().copy()


def _mix(bits: Hashes, seed: int) -> Hashes:
    """splitmix64's finaliser, in place: a bijection, so that different integers never collide in 64 bits."""
    if seed:
        bits += np.uint64(seed)
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits


def _hash_halves(column: pl.Series, seed: int) -> Hashes:
    frame = column.alias("p").to_frame()
    if column.dtype == pl.Int128:
        frame = frame.select(pl.col("p").reinterpret(signed=False))
    halves = frame.select(
        high=(pl.col("p") // _HALF).cast(pl.UInt64), low=pl.col("p").cast(pl.UInt64, wrap_numerical=True)
    )
    return _combined(halves.get_columns(), len(column), seed=seed)


def _hash_lists(column: pl.Series, seed: int) -> Hashes:
    lengths = column.list.len().fill_null(0).to_numpy().astype(np.int64)
    hashes = _mix(lengths.astype(np.uint64), seed)
    filled = lengths > 0
    if not filled.any():
        return hashes
    sizes = lengths[filled]
    items = _hash(column.filter(pl.Series(filled)).explode(), seed)
    starts = np.cumsum(sizes) - sizes
    positions = np.arange(len(items), dtype=np.int64) - np.repeat(starts, sizes)
    items *= _FACTOR
    items += _mix(positions.astype(np.uint64), seed ^ _PLACES)
    hashes[filled] += np.add.reduceat(_mix(items, seed), starts)
    return hashes
