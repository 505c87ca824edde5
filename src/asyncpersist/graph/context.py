"""Graphs as values, and the one that definitions go to."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType

from asyncpersist.graph.node import SinkNode

__all__ = ["Graph", "current_graph"]


class Graph:
    """What a run runs: the sinks that were defined, and through their inputs everything above them.

    ``with Graph() as graph:`` makes it the one that definitions go to, in this thread or task, until the block ends.
    Without one they go to a graph of the process. One graph runs once at a time.
    """

    def __init__(self) -> None:
        self.sinks: list[SinkNode] = []
        self._tokens: list[Token[Graph]] = []

    def add(self, sink: SinkNode) -> None:
        """Makes `sink` part of the graph."""
        self.sinks.append(sink)

    def clear(self) -> None:
        """Forgets all that was defined."""
        self.sinks.clear()

    def __enter__(self) -> Graph:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._tokens.pop())


_current: ContextVar[Graph] = ContextVar("asyncpersist_graph", default=Graph())  # noqa: B039


def current_graph() -> Graph:
    """The graph that definitions go to here and now."""
    return _current.get()
