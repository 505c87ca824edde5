"""Removing a row that is not there: found out where rows are kept, and said whose mistake it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import asyncpersist as ap
from asyncpersist.errors import InputError
from asyncpersist.io.python import ConnectorSubject


class Item(ap.Schema):
    k: str
    v: int


class Moves(ConnectorSubject):
    """Gives or removes (sign, k, v)."""

    def __init__(self, *moves: tuple[int, str, int]) -> None:
        self.moves = moves

    async def run(self) -> None:
        for sign, k, v in self.moves:
            await (self.next if sign > 0 else self.remove)(k=k, v=v)


def counted(table: ap.Table) -> ap.Table:
    return table.groupby(ap.this.k).reduce(ap.this.k, n=ap.reducers.count())


def distinct(table: ap.Table) -> ap.Table:
    return table.groupby(ap.this.k).reduce(ap.this.k, n=ap.reducers.count_distinct(ap.this.v))


def largest(table: ap.Table) -> ap.Table:
    return table.groupby(ap.this.k).reduce(ap.this.k, n=ap.reducers.max(ap.this.v))


def whole(table: ap.Table) -> ap.Table:
    return table.reduce(n=ap.reducers.count())


async def run(result: Callable[[ap.Table], ap.Table], *subjects: Moves) -> list[tuple[dict[str, Any], bool]]:
    told: list[tuple[dict[str, Any], bool]] = []

    def change(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        told.append((row, is_addition))

    with ap.Graph() as graph:
        for number, subject in enumerate(subjects):
            table = ap.io.python.read(subject, schema=Item, name=f"moves {number}")
            ap.io.subscribe(result(table), change)
    await ap.run(graph)
    return told


@pytest.mark.parametrize(
    ("result", "moves", "what"),
    [
        (counted, [(-1, "a", 1)], "weight -1 of k = 'a'"),
        (counted, [(1, "a", 1), (-1, "a", 1), (-1, "a", 1)], "weight -1 of k = 'a'"),
        (whole, [(-1, "a", 1)], "weight -1[.]"),
        (distinct, [(1, "a", 1), (1, "a", 1), (-1, "a", 2)], "weight -1 of v = 2"),
        (largest, [(1, "a", 1), (1, "a", 2), (-1, "a", 2), (1, "a", 5), (-1, "a", 7)], "weight -1 of v = 7"),
    ],
)
async def test_a_row_that_was_never_given(
    result: Callable[[ap.Table], ap.Table], moves: list[tuple[int, str, int]], what: str
) -> None:
    with pytest.raises(InputError, match=rf"^the subject 'moves 0' \(Moves\) removed a row .*{what}") as raised:
        await run(result, Moves(*moves))
    assert "report it" not in str(raised.value)


async def test_of_two_subjects_the_one_that_removed_is_named() -> None:
    with pytest.raises(InputError, match=r"^the subject 'moves 1'"):
        await run(counted, Moves((1, "a", 1)), Moves((-1, "a", 1)))


async def test_a_subject_that_cannot_remove_is_not_named() -> None:
    class Growing(Moves):
        deletions_enabled = False

    with pytest.raises(InputError, match=r"^the subject 'moves 1'"):
        await run(counted, Growing((1, "a", 1)), Moves((-1, "a", 1)))


async def test_where_no_row_is_kept_a_removal_is_passed_on(tmp_path: Path) -> None:
    with ap.Graph() as graph:
        table = ap.io.python.read(Moves((-1, "a", 1)), schema=Item)
        ap.io.jsonlines.write(table.filter(ap.this.v > 0).select(ap.this.k), tmp_path / "out.jsonl")
    await ap.run(graph)
    assert (tmp_path / "out.jsonl").read_text().endswith('"diff":-1}\n')


async def test_with_a_primary_key_it_means_nothing(tmp_path: Path) -> None:
    class Keyed(ap.Schema):
        k: str = ap.column_definition(primary_key=True)
        v: int

    with ap.Graph() as graph:
        table = ap.io.python.read(Moves((-1, "a", 1), (1, "b", 1)), schema=Keyed)
        ap.io.jsonlines.write(counted(table), tmp_path / "out.jsonl")
    await ap.run(graph)
    assert [line.split('"')[3] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["b"]
