"""An operator of the tests' own: it depends on the order of arrival, and says what it was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

import asyncpersist as ap
from asyncpersist.columnar.delta import WEIGHT, Delta
from asyncpersist.columnar.state import Increment, State
from asyncpersist.dtypes import DType
from asyncpersist.graph.node import Demands, OperatorNode
from asyncpersist.operators.operator import Operator

Given = list[int]
"""How many rows an operator was given, step by step, without the steps of none."""


class _Rows:
    """All that came, one row per key."""

    key = ("place",)

    def __init__(self) -> None:
        self.words: list[str] = []
        self.captured = 0

    def capture(self) -> Increment | None:
        if self.captured == len(self.words):
            return None
        new = range(self.captured, len(self.words))
        self.captured = len(self.words)
        return Increment(
            pl.DataFrame({"place": list(new), "word": [self.words[i] for i in new], WEIGHT: [1] * len(new)})
        )

    def load(self, frame: pl.DataFrame) -> None:
        self.words = frame.sort("place")["word"].to_list()
        self.captured = len(self.words)


class _History(Operator):
    """One row: the words that came, in their order, those that went with a minus, joined by `mark`."""

    def __init__(self, mark: str, given: Given) -> None:
        self._mark = mark
        self._given = given
        self._rows = _Rows()

    def states(self) -> Mapping[str, State]:
        return {"rows": self._rows}

    def step(self, inputs: Sequence[Delta]) -> Delta:
        frame = inputs[0].weighted()
        if not frame.height:
            return Delta(pl.DataFrame(schema={"history": pl.String}))
        self._given.append(frame.height)
        before = list(self.present())
        for word, weight in frame.select("word", WEIGHT).iter_rows():
            self._rows.words.extend([word if weight > 0 else f"-{word}"] * abs(weight))
        gone = [delta.weighted().with_columns(pl.lit(-1, pl.Int64).alias(WEIGHT)) for delta in before]
        return Delta.from_weighted(pl.concat([*gone, *(delta.weighted() for delta in self.present())]))

    def present(self) -> Iterator[Delta]:
        if self._rows.words:
            yield Delta(pl.DataFrame({"history": [self._mark.join(self._rows.words)]}))


def history(
    words: ap.Table, given: Given, *, mark: str = " ", ordered: bool = True, name: str | None = None
) -> ap.Table:
    """The history of a table of words; `ordered=False` keeps from the runtime that it depends on the order."""

    def make(demands: Demands) -> Operator:
        return _History(mark, given)

    return ap.Table(
        OperatorNode(
            kind="history",
            definition={"mark": mark},
            inputs=(words.node,),
            columns={"history": DType("str")},
            name=name,
            make=make,
            input_ids=lambda ids: (False,),
            order_dependent=ordered,
        )
    )
