"""How the log of one source is kept: decided when a run begins, from what the graph and the mode need of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asyncpersist.columnar.delta import ID, ORDER

__all__ = ["LogRule"]


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
