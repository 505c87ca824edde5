"""NumPy columns by slot that grow geometrically."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["SlotArray"]

T = TypeVar("T", bound=np.generic)


class SlotArray(Generic[T]):
    """A column of numbers by slot; slots never written hold 0. `items` is the array, at least as long as asked for."""

    __slots__ = ("items",)

    def __init__(self, dtype: type[T]) -> None:
        self.items: npt.NDArray[T] = np.zeros(0, dtype)

    def reserve(self, size: int) -> None:
        """Makes room for the slots below `size`."""
        if size > len(self.items):
            grown: npt.NDArray[Any] = np.zeros(max(size, 2 * len(self.items), 1024), self.items.dtype)
            grown[: len(self.items)] = self.items
            self.items = grown

    def keep(self, slots: npt.NDArray[np.int64]) -> None:
        """Keeps only what is in `slots` (ascending), which moves up to 0, 1, ..."""
        self.items = self.items[slots]
