"""The operators of one run, stepped together: deltas of the sources in, deltas of the sinks out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from asyncpersist.columnar.consolidate import consolidate
from asyncpersist.columnar.delta import ID, ORDER, PART, Delta, concat
from asyncpersist.columnar.state import State
from asyncpersist.graph.node import Node, OperatorNode, SinkNode, SourceNode
from asyncpersist.graph.plan import Plan
from asyncpersist.operators.apply import Apply
from asyncpersist.operators.apply_later import ApplyLater
from asyncpersist.operators.operator import Operator

__all__ = ["Dataflow"]


class Dataflow:
    """Synchronous and without I/O; used by one thread at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._operators: dict[int, Operator] = {
            position: vertex.node.make(vertex.demands)
            for position, vertex in enumerate(plan.vertices)
            if isinstance(vertex.node, OperatorNode)
        }

    def states(self) -> Iterator[tuple[str, State]]:
        """Every piece of operator state, under a name that is stable over runs."""
        for position in self._operators:
            yield from self.states_of(position)

    def states_of(self, position: int) -> Iterator[tuple[str, State]]:
        """The same of the operator at one position of the plan."""
        for name, state in self._operators[position].states().items():
            yield f"state/{self._plan.vertices[position].identity}/{name}", state

    def applying(self) -> Iterator[Apply]:
        """The operators that call functions, to be bound to who calls."""
        return (operator for operator in self._operators.values() if isinstance(operator, Apply))

    def applying_later(self) -> Iterator[ApplyLater]:
        """Those that call functions whose answers come later."""
        return (operator for operator in self._operators.values() if isinstance(operator, ApplyLater))

    @property
    def unsettled(self) -> bool:
        """Whether `end_epoch` has something to do."""
        return any(operator.unsettled for operator in self._operators.values())

    def end_epoch(self) -> None:
        """To be called after the last step of an epoch."""
        for operator in self._operators.values():
            operator.end_epoch()

    @property
    def stateful(self) -> frozenset[int]:
        """The positions of operators with states."""
        return frozenset(position for position, operator in self._operators.items() if operator.states())

    @property
    def telling(self) -> frozenset[int]:
        """The positions of operators that `present` can be asked of."""
        return frozenset(position for position, operator in self._operators.items() if operator.tells)

    def present(self, position: int) -> Iterator[Delta]:
        """What the output of a stateful operator holds; see `Operator.present`."""
        return self._operators[position].present()

    def step(
        self,
        arrived: Mapping[str, Sequence[Delta]],
        *,
        only: frozenset[int] | None = None,
        again: frozenset[int] = frozenset(),
    ) -> dict[str, Delta]:
        """One epoch: from the sources' deltas by identity to the sinks' non-empty, consolidated deltas by identity.

        `only`: the positions of what is stepped; the output of any other node is what has `arrived` under its identity.
        `again`: those of them that have seen their input before, and tell what they made of it.
        Raises what operators raise; the state is then undefined.
        """
        deltas: list[Delta] = []
        outputs: dict[str, Delta] = {}
        for position, vertex in enumerate(self._plan.vertices):
            node, inputs = vertex.node, [deltas[parent] for parent in vertex.inputs]
            if isinstance(node, SourceNode) or (only is not None and position not in only):
                deltas.append(_combined(arrived.get(vertex.identity, ()), node, vertex.demands.ids))
            elif isinstance(node, OperatorNode):
                operator = self._operators[position]
                deltas.append(operator.again(inputs) if position in again else operator.step(inputs))
            elif isinstance(node, SinkNode):
                delta = consolidate(inputs[0]) if inputs[0].height else inputs[0]
                deltas.append(delta)
                if delta.height:
                    outputs[vertex.identity] = delta
        return outputs


def _combined(deltas: Sequence[Delta], node: Node, ids: bool) -> Delta:
    if deltas:
        delta = concat(deltas)
        return Delta(delta.rows.drop(PART), delta.weights) if PART in delta.rows.columns else delta
    columns = node.columns if isinstance(node, SourceNode | OperatorNode) else {}
    schema: dict[str, pl.DataType] = {name: dtype.polars for name, dtype in columns.items()}
    if ids:
        schema[ID] = pl.UInt128()
    if isinstance(node, SourceNode) and node.ordered:
        schema[ORDER] = pl.Int64()
    return Delta(pl.DataFrame(schema=schema), consolidated=True)
