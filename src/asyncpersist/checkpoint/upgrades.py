"""From each older format of manifests to the next: one pure function per version, for good.

A function takes the decoded JSON of a manifest of its version and returns what the next version would have written, as
far as that can be known; fields that it does not know stay as they are. What a function here says is never changed once
a version has been released that reads with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["UPGRADES", "upgraded"]


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 says what logs hold, which parts of them may be compacted, and of which nodes something is kept.

    Where all logs were kept, a source's was from its beginning; elsewhere only those of sources that needed one.
    """
    streams, graph = content.get("streams", {}), content.get("graph", {})
    of_every_source = "offsets/" if content.get("mode") == "PERSISTING" else "log/"
    return {
        **content,
        "format": 2,
        "graph": {
            identity: node if _kind(identity) == "sink" else {**node, "kept": True} for identity, node in graph.items()
        },
        "streams": {
            # That equal rows were made one was not written down.
            name: [{**ref, "compacted": True} for ref in refs] if name.startswith("log/") else refs
            for name, refs in streams.items()
        },
        "logs": {
            identity: {"since": 0, "ids": False}
            for identity in graph
            if _kind(identity) == "source" and streams.get(of_every_source + identity)
        },
    }


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
"""Version -> what makes the next version of it."""


def upgraded(content: dict[str, Any], version: int, to: int) -> dict[str, Any]:
    """The content of a manifest of `version` as version `to` has it. Raises `KeyError` for what was no version."""
    for step in range(version, to):
        content = UPGRADES[step](content)
    return content


def _kind(identity: str) -> str:
    """The kind of a node, with which its identity begins."""
    return identity.partition("-")[0].partition(".")[0]
