"""The contract of an operator: synchronous, without I/O, it steps and owns state but never commits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from asyncpersist.columnar.delta import Delta
from asyncpersist.columnar.state import State

__all__ = ["PRESENT_ROWS", "Operator"]

PRESENT_ROWS = 1 << 18


class Operator(ABC):
    """One instance belongs to one run. `step` calls never overlap; capture and load happen between them."""

    @abstractmethod
    def step(self, inputs: Sequence[Delta]) -> Delta:
        """The output's change for the inputs' changes of one epoch.

        Every input has one delta, possibly empty (then still with its columns); so has the output. After an exception
        the state is undefined and must not be captured. Raises `RowError` where an expression has no value for a row.
        """

    def again(self, inputs: Sequence[Delta]) -> Delta:
        """The output for rows that were stepped before and are there: as it was emitted. The state stays as it is.

        For those that cannot tell their output from state alone; the others are never asked.
        """
        return self.step(inputs)

    @property
    def tells(self) -> bool:
        """Whether `present` can be asked. What has no states cannot."""
        return bool(self.states())

    @property
    def unsettled(self) -> bool:
        """Whether `end_epoch` has something to do."""
        return False

    def end_epoch(self) -> None:  # noqa: B027
        """Told after the last step of an epoch, which may have had several."""

    def states(self) -> Mapping[str, State]:
        """The pieces of state by a name that is stable over versions; empty for a stateless operator."""
        return {}

    def present(self) -> Iterator[Delta]:
        """What the output holds now, in pieces of up to `PRESENT_ROWS` rows, every row once: told from the state alone.

        A row is exactly as it was emitted. Only an operator that `tells` can be asked.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no state that its output could be told from")
