"""Taking caches of functions out of a root between runs."""

from __future__ import annotations

import msgspec

from asyncpersist.checkpoint.between_runs import amend, stand
from asyncpersist.checkpoint.caches import function_stream
from asyncpersist.checkpoint.holdings import find_caches, of_name
from asyncpersist.checkpoint.manifest import CacheFacts
from asyncpersist.checkpoint.reading import follow
from asyncpersist.checkpoint.retention import Retention, lineage
from asyncpersist.clock import Clock
from asyncpersist.objectstore.contract import ObjectStore

__all__ = ["drop_cache"]


async def drop_cache(store: ObjectStore, name: str, *, clock: Clock, takeover: bool = False) -> dict[str, CacheFacts]:
    """Commits that a cache, or the results of a function, are no more, and returns what they were.

    Older snapshots that are kept still name the objects, but going back to one does not bring them back. Raises
    `StateInUse` unless the owner is proven to be gone, or `takeover`; `StateError` if there is no such name;
    `DamagedState` if a kept manifest is damaged; `Fenced` if a run claimed the root meanwhile.
    """
    standing = await stand(store, takeover=takeover)
    chain = await follow(store, standing.sequences)
    head, kept = chain[0], lineage(chain)
    holdings = await find_caches(store, head, ended=standing.ended)
    dropped = of_name(holdings, name, store.describe())
    content = msgspec.structs.replace(
        head,
        streams={s: list(refs) for s, refs in holdings.streams.items() if function_stream(s) not in dropped},
        caches={stream: facts for stream, facts in holdings.facts.items() if stream not in dropped},
    )
    retention = Retention(kept, kept[-1].sequence if kept else max(standing.sequences) + 1, tuple(head.condemned))
    clean = head.ended_cleanly
    await amend(store, clock, standing, content, retention, keep=head.keep, clean=clean, answers=holdings.answers)
    return dropped
