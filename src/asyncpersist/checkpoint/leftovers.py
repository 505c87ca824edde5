"""What one run knows of keys that may be deleted: kept from commit to commit, without I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from asyncpersist.checkpoint.layout import MANIFESTS, manifest_key
from asyncpersist.checkpoint.manifest import Answered, Manifest
from asyncpersist.checkpoint.retention import Facts

__all__ = ["Leftovers"]


class Leftovers:
    """Made of the chain a root was opened with and the sequences of all manifests there were.

    `unnamed`: keys this run wrote that no manifest names yet. `discarded`: those of them that none ever will.
    `superseded`: manifests that nobody follows any more. `gone`: keys the head condemns that are known to be gone.
    """

    def __init__(self, chain: Sequence[Manifest], sequences: Collection[int]) -> None:
        self.unnamed: set[str] = set()
        self.discarded: set[str] = set()
        self.superseded = {manifest_key(sequence) for sequence in sequences}
        condemned = chain[0].condemned if chain else ()
        self.gone = {key for key in condemned if key.startswith(MANIFESTS)} - self.superseded

    def facts(
        self,
        chain: Sequence[Manifest],
        named: Collection[str],
        *,
        now: float,
        stored: Collection[str] | None = None,
        ending: bool = False,
        retain_snapshots: int | None = None,
        retain_for: float | None = None,
        keep: Mapping[str, int] | None = None,
        pinned: Sequence[Manifest] = (),
        answers: Mapping[int, Answered] | None = None,
    ) -> Facts:
        """What `retain` has to know of the manifest after the head of `chain`, which names `named`.

        `ending`: it is the run's last. `retain_snapshots` None lets no snapshot expire; `keep` None: it gives the names
        that the head gives; `answers` None: it says of them what the head says; the rest is as in `Facts`.
        """
        return Facts(
            ancestors=chain,
            named=named,
            sequence=chain[0].sequence + 1,
            generation=chain[0].generation,
            now=now,
            retain_snapshots=retain_snapshots,
            retain_for=retain_for,
            carried=set(chain[0].condemned) - self.gone,
            abandoned=self.discarded | self.unnamed if ending else set(self.discarded),
            superseded=set(self.superseded),
            stored=stored,
            keep=chain[0].keep if keep is None else keep,
            pinned=pinned,
            answers=chain[0].answers if answers is None else answers,
        )

    def committed(self, chain: Sequence[Manifest], manifest: Manifest, stay: Sequence[Manifest]) -> None:
        """Says that `manifest` was committed after the head of `chain` and lets `stay` stay."""
        condemned = set(manifest.condemned)
        self.superseded |= {ancestor.key for ancestor in chain}
        self.superseded -= condemned.union(ancestor.key for ancestor in stay)
        self.unnamed -= condemned | manifest.names()
        self.discarded -= condemned
        self.gone &= condemned

    def deletable(self, manifest: Manifest) -> list[str]:
        """What `manifest`, which is committed, condemns and is not known to be gone."""
        return [key for key in manifest.condemned if key not in self.gone]
