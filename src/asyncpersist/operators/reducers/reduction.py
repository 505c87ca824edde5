"""What a `reduce` computes: one value per group, as a plain value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from asyncpersist.dtypes import DType
from asyncpersist.errors import SchemaError

__all__ = ["KINDS", "NEEDS_ID", "Reduction"]

KINDS = (
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "any",
    "unique",
    "argmin",
    "argmax",
    "count_distinct",
    "tuple",
    "sorted_tuple",
)
"""The kinds of reductions there are."""

NEEDS_ID = ("argmin", "argmax", "tuple")
"""Those that need the ids of the input's rows."""

_SUMMED = {"sum": ("int", "float", "duration"), "avg": ("int", "float", "duration")}


@dataclass(frozen=True, slots=True)
class Reduction:
    """One output column of a group-by.

    | kind | value of a group | None in the input |
    |---|---|---|
    | count | how many rows | |
    | sum, avg | int and duration: exact; float: the double nearest to the exact sum | left out; all None: None |
    | min, max | in sort order, NaN above all numbers | left out; all None: None |
    | any | the smallest | left out; all None: None |
    | unique | the only value there is; two different ones are a `RowError` | a value |
    | argmin, argmax | the id of the row with the extreme, of several the smallest | left out; all None: None |
    | count_distinct | how many different values | a value |
    | tuple | all values, by row id | in the list, or left out with `skip_nones` |
    | sorted_tuple | all values in sort order, None first | in the list, or left out with `skip_nones` |

    `dtype` is the type of the column `input`; both are None for count.
    Raises `SchemaError` for a kind that there is not, or that does not go with the type.
    """

    output: str
    kind: str
    input: str | None
    dtype: DType | None
    skip_nones: bool = False

    def __post_init__(self) -> None:
        where = f"reduction {self.output!r}"
        if self.kind not in KINDS:
            raise SchemaError(f"{where}: there is no reducer {self.kind!r}. There are {', '.join(KINDS)}.")
        if self.kind == "count":
            return
        if self.input is None or self.dtype is None:
            raise SchemaError(f"{where}: {self.kind} needs a column.")
        allowed = _SUMMED.get(self.kind)
        if allowed is not None and self.dtype.kind not in allowed:
            raise SchemaError(
                f"{where}: {self.kind} of column {self.input!r}, which is {self.dtype}. It takes {', '.join(allowed)}."
            )

    @property
    def output_dtype(self) -> DType:
        """The type of the output column."""
        if self.dtype is None or self.kind in ("count", "count_distinct"):
            return DType("int")
        if self.kind == "avg":
            return DType("duration" if self.dtype.kind == "duration" else "float", self.dtype.optional)
        if self.kind in ("argmin", "argmax"):
            return DType("pointer", self.dtype.optional)
        if self.kind in ("tuple", "sorted_tuple"):
            item = replace(self.dtype, optional=False) if self.skip_nones else self.dtype
            return DType("list", args=(item,))
        return self.dtype
