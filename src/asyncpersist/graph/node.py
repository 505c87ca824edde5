"""Nodes of a dataflow graph: what is computed from what. Building them runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.operators.operator import Operator

if TYPE_CHECKING:
    from asyncpersist.io.sink import Sink
    from asyncpersist.io.source import Source

__all__ = ["Demands", "Node", "OperatorNode", "SinkNode", "SourceNode", "identifiable"]


_numbers = count()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Node:
    """One vertex, compared by identity.

    `definition` is the canonical form of what the node does: plain JSON values, equal over runs and versions for equal
    meanings. It goes into the fingerprint, as do those of the inputs. `name` is the user's name for it, if any; one
    that is no valid text is a `GraphError`.
    """

    kind: str
    definition: Mapping[str, Any]
    inputs: tuple[Node, ...] = ()
    name: str | None = None
    number: int = field(default_factory=_numbers.__next__, init=False)
    """Grows with every node that is made: which of two that are alike in all else is the first."""

    def __post_init__(self) -> None:
        try:
            (self.name or "").encode()
        except UnicodeEncodeError as exc:
            raise GraphError(f"name={self.name!r} is no valid text. Give the {self.kind} another name.") from exc


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SourceNode(Node):
    """Where rows come in; `columns` are those of the schema, in order, `key` those of its primary key.

    `ordered`: what follows needs to know in which order rows were read, so deltas carry the column `ORDER`.
    """

    columns: Mapping[str, DType]
    source: Source
    key: tuple[str, ...] = ()
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Demands:
    """What the plan asks of an operator.

    `ids`: its output must carry the column `ID`. `append_only`: no input ever retracts. `kept`: its state is kept.
    """

    ids: bool = False
    append_only: bool = False
    kept: bool = False


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class OperatorNode(Node):
    """A computation with one output table of `columns`.

    `make(demands)` gives a new operator for one run. `input_ids(ids)` says, for each input, whether the operator needs
    ids of it when its output does or does not carry them. `keeps_append_only`: without retractions in the inputs there
    are none in the output. `order_dependent` operators give another result when rows arrive in another order: for
    these, the logs of all sources above keep their history.
    """

    columns: Mapping[str, DType]
    make: Callable[[Demands], Operator]
    input_ids: Callable[[bool], tuple[bool, ...]]
    keeps_append_only: bool = False
    order_dependent: bool = False


def identifiable(node: Node) -> bool:
    """Whether rows of a node can have ids: single rows of some sources are taken back by their values instead."""
    if isinstance(node, SourceNode):
        return node.source.remover is None
    if isinstance(node, OperatorNode):
        asked = zip(node.inputs, node.input_ids(True), strict=True)
        return all(identifiable(parent) for parent, asks in asked if asks)
    return True


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SinkNode(Node):
    """Where changes go out; has exactly one input."""

    sink: Sink
