"""Random tables, each beside its recomputation in plain Python."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import polars as pl

import asyncpersist as ap
from asyncpersist.columnar.delta import ID
from asyncpersist.columnar.hashing import id_of
from asyncpersist.operators.reducers.reduction import Reduction
from tests.main_job.oracle_input import Row
from tests.operators.oracle import plain, reduced

Recompute = Callable[[Sequence[Row]], list[Row]]
"""From the rows of the source to those of the table, each with its `ID`."""

_ORDERED = ("int", "float", "bool", "str", "naive_datetime", "utc_datetime", "duration", "pointer")
_SUMMED = ("int", "float", "duration")
_KEYS = ("data", "s", "os", "i", "oi", "f", "of", "b", "ob", "d", "od", "u", "ot", "pair")


@dataclass(frozen=True)
class Made:
    """`huge`: the columns whose sums may not fit 64 bits."""

    table: ap.Table
    rows: Recompute
    huge: frozenset[str] = frozenset({"big"})


def _map(made: Made, table: ap.Table, change: Callable[[Row], Row]) -> Made:
    names = list(table.columns)

    def rows(source: Sequence[Row]) -> list[Row]:
        found = []
        for row in made.rows(source):
            changed = {ID: row[ID], **change(row)}
            assert set(changed) == {ID, *names}
            found.append(changed)
        return found

    return Made(table, rows)


def selected(made: Made) -> Made:
    this = ap.this
    table = made.table.select(
        this.s, this.items, key=this.id, twice=this.i * 2, least=this.big, half=this.f / 2, text=this.s.str.upper(),
        n=ap.coalesce(this.oi, 7), none=this.os.is_none(), pick=ap.if_else(this.b, this.i, 0), more=this.oi + 1,
        polars=pl.col("i") - 1, both=ap.make_tuple(this.b, this.os),
    )  # fmt: skip

    def change(row: Row) -> Row:
        return {
            "s": row["s"],
            "items": row["items"],
            "key": row[ID],
            "twice": row["i"] * 2,
            "least": row["big"],
            "half": row["f"] / 2,
            "text": row["s"].upper(),
            "n": 7 if row["oi"] is None else row["oi"],
            "none": row["os"] is None,
            "pick": row["i"] if row["b"] else 0,
            "more": None if row["oi"] is None else row["oi"] + 1,
            "polars": row["i"] - 1,
            "both": (row["b"], row["os"]),
        }

    return _map(made, table, change)


def everything(made: Made) -> Made:
    return _map(
        made,
        made.table.with_columns(rid=ap.this.id).rename({"pair": "couple"}).without("b", ap.this.ob),
        lambda row: {
            "rid": row[ID],
            "couple": row["pair"],
            **{name: value for name, value in row.items() if name not in (ID, "b", "ob", "pair")},
        },
    )


def filtered(made: Made, rng: random.Random) -> Made:
    this = ap.this
    conditions: list[tuple[Any, Callable[[Row], Any]]] = [
        (this.i > 0, lambda row: row["i"] > 0),
        (this.oi >= 1, lambda row: row["oi"] is not None and row["oi"] >= 1),
        (this.ob, lambda row: row["ob"]),
        (~this.b & this.os.is_not_none(), lambda row: not row["b"] and row["os"] is not None),
        (pl.col("s").str.contains("a", literal=True), lambda row: "a" in row["s"]),
        (this.of < 1.0, lambda row: row["of"] is not None and row["of"] < 1.0),
        (this.big == 2**53 + 1, lambda row: row["big"] == 2**53 + 1),
    ]
    condition, holds = rng.choice(conditions)
    return Made(
        made.table.filter(condition), lambda source: [row for row in made.rows(source) if holds(row)], made.huge
    )


def joined(first: Made, second: Made) -> Made:
    """`concat`, with new ids only the library knows."""
    return Made(
        first.table.concat_reindex(second.table),
        lambda source: [{**row, ID: None} for part in (first, second) for row in part.rows(source)],
    )


def grouped(made: Made, rng: random.Random, *, ids: bool = True, keys: Sequence[str] | None = None) -> Made:
    """A random `groupby().reduce()`. `ids`: whether the ids of the input's rows are known."""
    columns = made.table.columns
    if keys is None:
        possible = [name for name in _KEYS if name in columns] or list(columns)
        keys = rng.sample(possible, rng.choice([0, 1, 1, 2, 3][: len(possible) + 2]))
    kinds = ["count", "sum", "avg", "min", "max", "any", "argmin", "argmax", "count_distinct", "tuple", "sorted_tuple"]
    reductions: list[Reduction] = []
    arguments: dict[str, Any] = {}
    for number, kind in enumerate(rng.sample(kinds, rng.randint(1, 6))):
        names = [name for name, dtype in columns.items() if _takes(kind, dtype.kind, huge=name in made.huge)]
        if not names or (not ids and kind in ("argmin", "argmax", "tuple")):
            continue
        name = rng.choice(names)
        skips = kind in ("tuple", "sorted_tuple") and rng.random() < 0.5
        output = f"r{number}" if "r0" not in columns else f"q{number}"
        count = kind == "count"
        reductions.append(
            Reduction(output, kind, None if count else name, None if count else columns[name], skip_nones=skips)
        )
        reducer: Any = getattr(ap.reducers, kind)
        arguments[output] = reducer() if count else reducer(ap.this[name], **({"skip_nones": True} if skips else {}))
    total = "total" if "total" not in columns else "total2"
    if keys:
        arguments["one"] = ap.reducers.unique(ap.this[keys[0]])
        reductions.append(Reduction("one", "unique", keys[0], columns[keys[0]]))
    table = made.table.groupby(*(ap.this[key] for key in keys)).reduce(
        *(ap.this[key] for key in keys), **{total: ap.reducers.count()}, **arguments
    )
    reductions.append(Reduction(total, "count", None, None))
    huge = {reduction.output for reduction in reductions if reduction.input in made.huge} | {*keys} & made.huge
    return Made(table, lambda source: _grouped(keys, reductions, made.rows(source), table), frozenset(huge))


def _takes(kind: str, dtype: str, *, huge: bool) -> bool:
    if kind in ("sum", "avg"):
        return dtype in _SUMMED and not huge
    return kind in ("any", "count_distinct", "tuple") or dtype in _ORDERED


def _grouped(keys: Sequence[str], reductions: Sequence[Reduction], rows: Sequence[Row], table: ap.Table) -> list[Row]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(plain(row[key]) for key in keys), []).append(row)
    found = []
    for members in groups.values():
        result = {key: members[0][key] for key in keys}
        result |= {reduction.output: _reduced(reduction, members) for reduction in reductions}
        found.append(result)
    return [{ID: id_, **result} for id_, result in zip(_group_ids(found, keys, table), found, strict=True)]


def _reduced(reduction: Reduction, rows: Sequence[Row]) -> Any:
    if reduction.kind == "avg" and reduction.dtype is not None and reduction.dtype.kind == "duration":
        present = [row[str(reduction.input)] for row in rows if row[str(reduction.input)] is not None]
        return sum(present, timedelta(0)) // len(present) if present else None
    return reduced(reduction, rows)


def _group_ids(rows: Sequence[Row], keys: Sequence[str], table: ap.Table) -> list[Any]:
    if not keys:
        return [None] * len(rows)
    types = {key: table.columns[key] for key in keys}
    frame = pl.DataFrame(
        [pl.Series(key, [_stored(row[key], type.kind) for row in rows], type.polars) for key, type in types.items()]
    )
    return id_of(frame, list(keys)).to_list()


def _stored(value: Any, kind: str) -> Any:
    return {f"f{n}": item for n, item in enumerate(value)} if kind == "tuple" else value


def around(made: Made) -> Made:
    """Expressions inside and around reducers."""
    this, reducers = ap.this, ap.reducers
    table = made.table.groupby(this.os, this.b).reduce(
        this.b,
        key=ap.coalesce(this.os, "none"),
        weighed=reducers.sum(this.i * 3 + 1) + reducers.count() * 10,
        mean=ap.cast(float, reducers.sum(this.i)) / reducers.count(),
        spread=reducers.max(this.i) - reducers.min(this.i),
        longest=reducers.max(this.s.str.len()),
        picked=ap.if_else(reducers.max(this.i) > 2, reducers.min(this.oi), reducers.max(this.oi)),
    )

    def rows(source: Sequence[Row]) -> list[Row]:
        groups: dict[Any, list[Row]] = {}
        for row in made.rows(source):
            groups.setdefault((row["os"], row["b"]), []).append(row)
        found = []
        for (text, flag), members in groups.items():
            ints = [row["i"] for row in members]
            options = [row["oi"] for row in members if row["oi"] is not None]
            found.append(
                {
                    ID: None,
                    "b": flag,
                    "key": "none" if text is None else text,
                    "weighed": sum(n * 3 + 1 for n in ints) + len(ints) * 10,
                    "mean": sum(ints) / len(ints),
                    "spread": max(ints) - min(ints),
                    "longest": max(len(row["s"]) for row in members),
                    "picked": (min if max(ints) > 2 else max)(options, default=None),
                }
            )
        return found

    return Made(table, rows)


def frequent(made: Made, rng: random.Random) -> Made:
    """Only groups of a size that they leave again as they grow."""
    least, most = rng.randint(1, 3), rng.randint(3, 9)
    return Made(
        made.table.filter((ap.this.total >= least) & (ap.this.total <= most)),
        lambda source: [row for row in made.rows(source) if least <= row["total"] <= most],
        made.huge,
    )


def sizes(made: Made) -> Made:
    """The groups of a group-by as plain rows, to be put under others."""
    return _map(made, made.table.select(n=ap.this.total, big=ap.this.total > 2), lambda row: {
        "n": row["total"], "big": row["total"] > 2,
    })  # fmt: skip
