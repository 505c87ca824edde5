"""The contract of an operator: synchronous, without I/O, it steps and owns state but never commits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from asyncpersist.columnar.delta import Delta
from asyncpersist.columnar.state import State

__all__ = ["Operator"]


class Operator(ABC):
    """One instance belongs to one run. `step` calls never overlap; capture and load happen between them."""

    @abstractmethod
    def step(self, inputs: Sequence[Delta]) -> Delta:
        """The output's change for the inputs' changes of one epoch.

        Every input has one delta, possibly empty (then still with its columns); so has the output. After an exception
        the state is undefined and must not be captured. Raises `RowError` where an expression has no value for a row.
        """

    def states(self) -> Mapping[str, State]:
        """The pieces of state by a name that is stable over versions; empty for a stateless operator."""
        return {}
