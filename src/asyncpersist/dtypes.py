"""The types of columns: what a user annotates, and how it lies in memory.

| annotation | kind | in Polars |
|---|---|---|
| `int` | int | Int64 |
| `float` | float | Float64 |
| `bool` | bool | Boolean |
| `str` | str | String |
| `bytes` | bytes | Binary |
| `datetime.datetime`, `DateTimeNaive` | naive_datetime | Datetime(us) |
| `DateTimeUtc` | utc_datetime | Datetime(us, UTC) |
| `datetime.timedelta` | duration | Duration(us) |
| `list[T]`, `tuple[T, ...]` | list | List(T) |
| `tuple[A, B]` | tuple | Struct(f0, f1) |
| `Json` | json | String, compact JSON text |
| `numpy.ndarray` | array | Struct(data: List(Float64), shape: List(Int64)) |
| `Pointer` | pointer | UInt128 |
| `PyObjectWrapper` | object | Binary, pickled |
| none: what a function gives that answers later | future | Struct(done: Boolean, value: T) |
| `T or None`, `Optional[T]` | the same, optional | the same |
"""

from __future__ import annotations

import datetime
import types
import typing
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import numpy as np
import polars as pl

from asyncpersist.errors import SchemaError

__all__ = [
    "PENDING",
    "DType",
    "DateTimeNaive",
    "DateTimeUtc",
    "Duration",
    "Json",
    "Pending",
    "Pointer",
    "PyObjectWrapper",
    "wrap_py_object",
]


class DateTimeNaive(datetime.datetime):
    """Annotation of a date and time without a zone."""


class DateTimeUtc(datetime.datetime):
    """Annotation of a date and time in UTC."""


class Duration(datetime.timedelta):
    """Annotation of a span of time."""


class Json:
    """Annotation of any JSON value."""


class Pointer(int):
    """A row's 128-bit id. It is an int that prints short, as a few digits that most likely differ from row to row.

    So the text is for people. What names the row is the int; files have all of it in hexadecimal.
    """

    def __repr__(self) -> str:
        # Neither half alone tells the rows of one source, or of one group, apart.
        mixed = (int(self) ^ int(self) >> 64) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
        return f"^{mixed >> 32:08X}"

    __str__ = __repr__


_T = TypeVar("_T")


class PyObjectWrapper(Generic[_T]):
    """Annotation of any Python object, and what holds one: ``-> PyObjectWrapper`` and ``return wrap_py_object(x)``.

    Such values are pickled, in memory, in state and in caches, and unpickled where a function or a callback takes
    them: only use them with state that nobody else may write. All other types are plain data.
    """

    __slots__ = ("value",)

    def __init__(self, value: _T) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"PyObjectWrapper({self.value!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PyObjectWrapper) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)


def wrap_py_object(value: _T) -> PyObjectWrapper[_T]:
    """A Python object as a value of a column; see `PyObjectWrapper`."""
    return PyObjectWrapper(value)


class Pending:
    """The type of `PENDING`."""

    __slots__ = ()

    def __new__(cls) -> Pending:
        return PENDING

    def __repr__(self) -> str:
        return "Pending"

    def __reduce__(self) -> str:
        return "PENDING"


PENDING: Final[Pending] = object.__new__(Pending)
"""What stands for the value of a future that is not answered yet. There is one."""


_SIMPLE: dict[Any, str] = {
    int: "int",
    float: "float",
    bool: "bool",
    str: "str",
    bytes: "bytes",
    datetime.datetime: "naive_datetime",
    DateTimeNaive: "naive_datetime",
    DateTimeUtc: "utc_datetime",
    datetime.timedelta: "duration",
    Duration: "duration",
    Json: "json",
    dict: "json",
    np.ndarray: "array",
    Pointer: "pointer",
    PyObjectWrapper: "object",
}

_POLARS: dict[str, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "str": pl.String(),
    "bytes": pl.Binary(),
    "naive_datetime": pl.Datetime("us"),
    "utc_datetime": pl.Datetime("us", "UTC"),
    "duration": pl.Duration("us"),
    "json": pl.String(),
    "array": pl.Struct({"data": pl.List(pl.Float64()), "shape": pl.List(pl.Int64())}),
    "pointer": pl.UInt128(),
    "object": pl.Binary(),
}


@dataclass(frozen=True, slots=True)
class DType:
    """The type of a column. `kind` is of the table above; `args` are the item types of a list or tuple.

    Of a future, which itself is never None, the one of `args` is the type of its value; while it is pending, that is
    None in memory.
    """

    kind: str
    optional: bool = False
    args: tuple[DType, ...] = ()

    @property
    def polars(self) -> pl.DataType:
        """How the column lies in memory and in files."""
        if self.kind == "list":
            return pl.List(self.args[0].polars)
        if self.kind == "tuple":
            return pl.Struct({f"f{i}": arg.polars for i, arg in enumerate(self.args)})
        if self.kind == "future":
            return pl.Struct({"done": pl.Boolean(), "value": self.args[0].polars})
        return _POLARS[self.kind]

    def __str__(self) -> str:
        """The canonical spelling, which goes into fingerprints."""
        inner = f"[{', '.join(map(str, self.args))}]" if self.args else ""
        return f"{self.kind}{inner}{'?' if self.optional else ''}"

    def as_optional(self) -> DType:
        return self if self.optional else replace(self, optional=True)

    def as_future(self) -> DType:
        """The type of a value of this type that comes later."""
        return DType("future", args=(self,))

    @property
    def awaited(self) -> DType:
        """Of a future the type of its value, of another type itself."""
        return self.args[0] if self.kind == "future" else self

    @staticmethod
    def of(annotation: Any, *, where: str = "a type") -> DType:
        """The type an annotation means; `SchemaError`, which says `where`, if it means none."""
        if isinstance(annotation, DType):
            return annotation
        if isinstance(annotation, typing.Hashable) and annotation in _SIMPLE:
            return DType(_SIMPLE[annotation])
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (typing.Union, types.UnionType):
            rest = [arg for arg in args if arg is not type(None)]
            if len(rest) == 1 and len(args) == 2:
                return DType.of(rest[0], where=where).as_optional()
        elif (origin is list and len(args) == 1) or (origin is tuple and len(args) == 2 and args[1] is Ellipsis):
            return DType("list", args=(DType.of(args[0], where=where),))
        elif origin is tuple and args:
            return DType("tuple", args=tuple(DType.of(arg, where=where) for arg in args))
        elif origin is np.ndarray:
            return DType("array")
        elif origin is PyObjectWrapper:
            return DType("object")
        raise SchemaError(
            f"{where}: {annotation!r} is no column type. Use int, float, bool, str, bytes, datetime, timedelta, "
            "DateTimeUtc, list[T], tuple[...], Json, numpy.ndarray, or one of them with `| None`."
        )

    @staticmethod
    def from_polars(dtype: pl.DataType, *, where: str = "a column") -> DType:
        """The (optional) type that fits what a Polars expression returns; `SchemaError` if there is none.

        Narrow integers and floats widen to Int64 and Float64: the caller casts to `.polars`.
        """
        if dtype.is_integer():
            return DType("pointer" if dtype == pl.UInt128 else "int", optional=True)
        if dtype.is_float():
            return DType("float", optional=True)
        if isinstance(dtype, pl.Datetime):
            return DType("naive_datetime" if dtype.time_zone is None else "utc_datetime", optional=True)
        if isinstance(dtype, pl.Duration):
            return DType("duration", optional=True)
        if isinstance(dtype, pl.List):
            return DType("list", True, (DType.from_polars(dtype.inner, where=where),))  # type: ignore[arg-type]
        if isinstance(dtype, pl.Struct) and all(f.name == f"f{i}" for i, f in enumerate(dtype.fields)):
            return DType("tuple", True, tuple(DType.from_polars(f.dtype, where=where) for f in dtype.fields))  # type: ignore[arg-type]
        for kind in ("bool", "str", "bytes", "array"):
            if dtype == _POLARS[kind]:
                return DType(kind, optional=True)
        raise SchemaError(f"{where} has the Polars type {dtype}, which no column can have. Cast it first.")
