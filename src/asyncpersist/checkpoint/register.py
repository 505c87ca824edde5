"""The commit point: one manifest per sequence number, and certainty about whose it is.

It rests on create-if-absent alone. A create whose answer was lost is repeated with the same bytes until its outcome is
known; a sequence number never gets other bytes. After every create the store is listed: a manifest newer than the one
just created means that its number had been deleted long ago and that this writer has lost.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import NoReturn

from asyncpersist.checkpoint.layout import manifest_key
from asyncpersist.checkpoint.manifest import Damaged, Manifest, Owner, unseal
from asyncpersist.checkpoint.reading import manifest_sequences, read_manifest
from asyncpersist.errors import DamagedState, Fenced, StateError, StoreUnavailable
from asyncpersist.objectstore.contract import KeyExists, KeyMissing, ObjectStore, OutcomeUnknown

__all__ = ["Pending", "Register", "describe_owner"]

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Pending:
    """A commit that has been begun. `kept`: the ancestors that stay once it is committed, the parent first."""

    manifest: Manifest
    data: bytes
    kept: tuple[Manifest, ...]


class Register:
    """One writer's view of the manifests. Calls must not overlap."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._fenced: str | None = None
        self._committed = 0
        self.pending: Pending | None = None
        """The commit in doubt, if there is one: to be passed to `commit` again before any other."""

    def refuse_fenced(self) -> None:
        """Raises `Fenced` if this writer is known to have lost."""
        if self._fenced is not None:
            raise Fenced(self._fenced)

    async def confirm(self, sequence: int) -> None:
        """Raises `Fenced` if there is a manifest newer than `sequence` that is not this writer's `pending` one."""
        self.refuse_fenced()
        newest = max(await manifest_sequences(self._store), default=0)
        # This writer may have committed while the store was being listed.
        if newest <= max(sequence, self._committed):
            return
        if self.pending is None or self.pending.manifest.sequence != newest:
            await self._lose(newest)
        else:
            await self._compare(self.pending)

    async def commit(self, commit: Pending) -> None:
        """Returns once the manifest is known to be committed and the newest.

        Raises `Fenced`; `StoreUnavailable`, after which it was not committed or is `pending`; `DamagedState` if the
        manifest before it is gone. While the outcome is unknown it stays `pending`: after a cancellation, and after
        `StateUnwritable`, before which a store that repeats a call may have carried it out.
        """
        self.refuse_fenced()
        known_absent = self.pending is None
        self.pending = commit
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._store.create(commit.manifest.key, commit.data)
                break
            except KeyExists:
                await self._compare(commit)
                break
            except OutcomeUnknown:
                known_absent = False
                if attempt == _ATTEMPTS:
                    raise
            except StoreUnavailable:
                if known_absent:
                    self.pending = None
                raise
        sequences = await manifest_sequences(self._store)
        sequence = commit.manifest.sequence
        if max(sequences, default=0) > sequence:
            await self._lose(max(sequences))
        # The one before is deleted by nobody who has not committed beyond this one.
        if missing := {commit.manifest.parent_sequence, sequence - 1, sequence} - {0} - sequences:
            gone = manifest_key(min(missing))
            raise DamagedState(
                f"{self._store.describe()}: the manifest {gone} disappeared while this run owned the state: somebody "
                "deleted it. Put it back from a backup, or name another directory to start anew."
            )
        self._committed = sequence
        self.pending = None

    async def _compare(self, commit: Pending) -> None:
        """The number is taken: by this very commit, or by whoever took over. Raises `Fenced`.

        Raises `DamagedState`, the commit being `pending` still, if what was read is no whole manifest time after time:
        that says nothing of whose it is.
        """
        for _ in range(_ATTEMPTS):
            try:
                data = await self._store.get(commit.manifest.key)
            except KeyMissing:
                # It was there a moment ago: whoever deleted it has committed beyond it.
                await self._lose(max(await manifest_sequences(self._store), default=commit.manifest.sequence))
            if data == commit.data:
                return
            try:
                unseal(data)
            except Damaged as exc:
                damage = exc
            else:
                await self._lose(commit.manifest.sequence)
        raise DamagedState(
            f"{self._store.describe()}: the manifest {commit.manifest.key} is damaged: {damage}. Put it back from a "
            "backup, or name another directory to start anew. Nothing was changed."
        ) from damage

    async def _lose(self, sequence: int) -> NoReturn:
        who = ""
        # Who it was is a courtesy; that it happened is certain.
        with contextlib.suppress(StateError, StoreUnavailable):
            who = f" by {describe_owner((await read_manifest(self._store, sequence, fallback=sequence)).owner)}"
        self._fenced = (
            f"{self._store.describe()} was taken over{who}; its manifest {manifest_key(sequence)} came first. "
            "Nothing this run writes counts any more: end it."
        )
        self.pending = None
        raise Fenced(self._fenced)


def describe_owner(owner: Owner) -> str:
    """An owner as messages name it."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(owner.since))
    return f"process {owner.pid} on host {owner.host or '?'}, there since {since}"
