"""How the log of one source is kept: decided when a run begins, from what the graph and the mode need of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asyncpersist.columnar.delta import ID, ORDER, PART
from asyncpersist.graph.node import SourceNode
from asyncpersist.graph.plan import Plan

__all__ = ["LogRule", "rule_of"]


@dataclass(frozen=True, slots=True)
class LogRule:
    """What a log holds, and what it may be compacted to.

    `columns`: those of the source, and `ID`, `PART` and `ORDER` where this run has them; older parts of a log may lack
    some, or have more. `kept` is `"whole"` where somebody needs the history, rows in their order under their epochs;
    `"net"` where only what is there counts, so that equal rows become one with the sum of their weights; `"latest"`
    where of the rows under `key` the one of the largest `ORDER` counts, and none if that one has a negative weight.

    `apart`: what is of this epoch or an older one stays in other objects than what is newer.
    """

    columns: tuple[str, ...]
    kept: Literal["whole", "net", "latest"] = "net"
    key: tuple[str, ...] = ()
    apart: int = 0

    @property
    def repeats(self) -> bool:
        """Whether equal rows may be many, so that each batch is looked at for them."""
        return self.kept != "whole" and not {ID, ORDER} & set(self.columns)

    @property
    def identified(self) -> bool:
        """Whether its rows have ids."""
        return ID in self.columns


def rule_of(plan: Plan, position: int, *, whole: bool = False, apart: int = 0, persistent: bool = True) -> LogRule:
    """How the log of the source at `position` is kept, `whole` or as small as can be; `persistent`: in a root."""
    vertex = plan.vertices[position]
    node = vertex.node
    assert isinstance(node, SourceNode)
    columns = list(node.columns)
    if vertex.demands.ids:
        columns.append(ID)
    if node.source.retracts_parts(persistent=persistent):
        columns.append(PART)
    if node.ordered:
        columns.append(ORDER)
    if whole:
        return LogRule(tuple(columns), "whole", apart=apart)
    below = [other.node for other in plan.vertices if position in other.inputs]
    if below and all(node.definition.get("replaces") for node in below):
        key = tuple(below[0].definition["primary_key"])
        return LogRule(tuple(columns), "latest", key, apart)
    return LogRule(tuple(columns), apart=apart)
