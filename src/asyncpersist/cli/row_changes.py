"""How the rows of a piece of state differ between two snapshots: a decision over two frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from asyncpersist.cli.state_rows import plain_rows

__all__ = ["Change", "RowChanges", "compare"]

_ROW = "__row"


@dataclass(frozen=True, slots=True)
class Change:
    """One row before and after; None where there is none."""

    kind: Literal["added", "removed", "changed"]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class RowChanges:
    """How many keys have a row only afterwards, only before, or another one; `sample`: the first of each kind."""

    added: int
    removed: int
    changed: int
    sample: tuple[Change, ...]


def compare(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str], *, limit: int) -> RowChanges:
    """How `after` differs from `before`; no two rows of either have the same key. At most `limit` of each kind.

    A column that only one of them has is null in the other. Where one lacks a column of the key, or its type is
    another, no row is in both.
    """
    on = list(key)
    schemas = [{name: frame.schema.get(name) for name in on} for frame in (before, after)]
    if schemas[0] != schemas[1]:
        return RowChanges(
            after.height, before.height, 0, (*_only("added", after, limit), *_only("removed", before, limit))
        )
    if not on:
        # There is one row at most, under no key.
        before, after, on = before.with_columns(__one=True), after.with_columns(__one=True), ["__one"]
    added = after.join(before, on=on, how="anti", nulls_equal=True, maintain_order="left")
    removed = before.join(after, on=on, how="anti", nulls_equal=True, maintain_order="left")
    pairs = before.with_row_index(_ROW).join(
        after.select(on).with_row_index(f"{_ROW}_after"), on=on, nulls_equal=True, maintain_order="left"
    )
    left, right = before[pairs[_ROW].to_numpy()], after[pairs[f"{_ROW}_after"].to_numpy()]
    differs = _differing(left, right)
    left, right = left.filter(differs), right.filter(differs)
    if not key:
        added, removed, left, right = (frame.drop("__one") for frame in (added, removed, left, right))
    both = zip(plain_rows(left.head(limit)), plain_rows(right.head(limit)), strict=True)
    return RowChanges(
        added.height,
        removed.height,
        left.height,
        (
            *_only("added", added, limit),
            *_only("removed", removed, limit),
            *(Change("changed", one, other) for one, other in both),
        ),
    )


def _differing(left: pl.DataFrame, right: pl.DataFrame) -> pl.Series:
    """Which rows differ in any column."""
    differs = pl.repeat(False, left.height, dtype=pl.Boolean, eager=True)
    for name in dict.fromkeys((*left.columns, *right.columns)):
        if name not in right.columns:
            differs |= left[name].is_not_null()
        elif name not in left.columns:
            differs |= right[name].is_not_null()
        elif left.schema[name] != right.schema[name]:
            differs |= True
        else:
            differs |= left[name].ne_missing(right[name])
    return differs


def _only(kind: Literal["added", "removed"], rows: pl.DataFrame, limit: int) -> list[Change]:
    shown = plain_rows(rows.head(limit))
    return [Change(kind, None, row) if kind == "added" else Change(kind, row, None) for row in shown]
