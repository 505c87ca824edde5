"""The node of a table with a primary key."""

from __future__ import annotations

import pytest

from asyncpersist.dtypes import DType
from asyncpersist.errors import SchemaError
from asyncpersist.graph.node import Demands, SourceNode
from asyncpersist.io.keyed import keyed
from asyncpersist.io.source import Needs, Offsets, Source, SourceReader
from asyncpersist.operators.last_read import LastRead
from asyncpersist.operators.upsert import Upsert


class Nothing(Source):
    async def check(self, offsets: Offsets | None, *, persistent: bool) -> None:
        raise NotImplementedError

    async def open(self, offsets: Offsets | None, *, identity: str, needs: Needs) -> SourceReader:
        raise NotImplementedError


def source(*, ordered: bool = True) -> SourceNode:
    columns = {"k": DType("str"), "v": DType("int")}
    return SourceNode(kind="source", definition={}, columns=columns, source=Nothing(), ordered=ordered)


def test_the_node() -> None:
    rows = source()
    node = keyed(rows, ["k"], replaces=False)
    assert node.inputs == (rows,)
    assert node.columns == rows.columns
    assert node.input_ids(True) == (False,)
    assert (
        node.definition != keyed(rows, ["k"], replaces=True).definition != keyed(rows, ["v"], replaces=True).definition
    )


@pytest.mark.parametrize(
    ("replaces", "append_only", "kind"),
    [(True, False, Upsert), (True, True, Upsert), (False, False, LastRead), (False, True, Upsert)],
)
def test_superseded_rows_are_kept_where_they_may_come_back(replaces: bool, append_only: bool, kind: type) -> None:
    operator = keyed(source(), ["k"], replaces=replaces).make(Demands(append_only=append_only))
    assert type(operator) is kind


def test_refused_keys() -> None:
    with pytest.raises(SchemaError, match=r"no column 'w'\. There are: k, v"):
        keyed(source(), ["k", "w"], replaces=True)
    with pytest.raises(SchemaError, match="at least one column"):
        keyed(source(), [], replaces=True)
    with pytest.raises(ValueError, match="ordered=True"):
        keyed(source(ordered=False), ["k"], replaces=True)
