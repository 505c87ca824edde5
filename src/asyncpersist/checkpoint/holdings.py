"""What a root holds of caches of functions: what its newest manifest names, and what the next run adopts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from asyncpersist.checkpoint.answers import accounted, added, open_generations, read_answers, unnamed, with_facts
from asyncpersist.checkpoint.caches import facts_of, function_stream, is_cache
from asyncpersist.checkpoint.layout import OBJECTS
from asyncpersist.checkpoint.manifest import Answered, CacheFacts, Manifest, ObjectRef
from asyncpersist.errors import StateError
from asyncpersist.objectstore.contract import ObjectStore

__all__ = ["Holdings", "find_caches", "of_name"]


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a root holds of caches: what `manifest` names, and what the next run adopts.

    `streams` and `facts` are of all of it; `answers` says of those that were no more than written that they are named.
    """

    manifest: Manifest
    streams: Mapping[str, Sequence[ObjectRef]]
    facts: Mapping[str, CacheFacts]
    answers: Mapping[int, Answered]

    @property
    def functions(self) -> dict[str, CacheFacts]:
        """The streams of results, and what is known of each."""
        found = {function_stream(stream) for stream in self.streams if is_cache(stream)} | self.facts.keys()
        known = msgspec.structs.replace(self.manifest, caches=dict(self.facts))
        return {stream: facts_of(known, stream) for stream in sorted(found)}


async def find_caches(store: ObjectStore, manifest: Manifest, *, ended: bool) -> Holdings:
    """What there is of caches, by reading alone. `ended`: the owner that `manifest` records is proven to be gone."""
    before = open_generations(manifest, ended=ended)
    stored = [entry.key for entry in await store.list(OBJECTS)] if before else []
    keys = unnamed(stored, before, manifest.condemned)
    found = await read_answers(store, keys)
    return Holdings(
        manifest, added(manifest.streams, found)[0], with_facts(manifest.caches, found), accounted(before, keys)
    )


def of_name(holdings: Holdings, name: str, where: str) -> dict[str, CacheFacts]:
    """The streams of results of a cache, or of a function, of that name. Raises `StateError`, which lists the names."""
    functions = holdings.functions
    found = {stream: facts for stream, facts in functions.items() if name in (facts.cache, facts.function)}
    if not found:
        there = sorted({name for facts in functions.values() for name in (facts.cache, facts.function)})
        raise StateError(
            f"{where} has no cache and no function {name!r}; it has: {', '.join(there) or 'none'}. Nothing was changed."
        )
    return found
