"""From groups to the rows that belong to them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from asyncpersist.columnar.index import Index

__all__ = ["Members"]

Slots = npt.NDArray[np.int64]


class Members:
    """A multimap from a group's slot to the slots of rows, which are only ever added."""

    def __init__(self) -> None:
        self._index = Index()
        self._size = 0

    def __len__(self) -> int:
        """How many rows there are; the next one has this slot."""
        return self._size

    def extend(self, owners: Slots) -> None:
        """Adds the next rows, of the groups `owners`; one of a negative group is in none."""
        slots = np.arange(self._size, self._size + len(owners), dtype=np.int64)
        self._size += len(owners)
        if len(owners) and owners.min() < 0:
            slots = slots[owners >= 0]
            owners = owners[owners >= 0]
        order = np.argsort(owners, kind="stable")
        self._index.add(owners[order].astype(np.uint64), slots[order])

    def of(self, groups: Slots) -> Slots:
        """The rows of distinct groups, in no particular order."""
        _, slots = self._index.candidates(np.sort(groups).astype(np.uint64))
        return slots
