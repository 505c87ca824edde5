"""The columns of a table and their types, as a class."""

from __future__ import annotations

import datetime
import inspect
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from asyncpersist.dtypes import DType
from asyncpersist.errors import SchemaError

__all__ = [
    "NO_DEFAULT",
    "ColumnDefinition",
    "Schema",
    "column_definition",
    "schema_from_types",
    "schema_of",
    "why_reserved",
]


class _NoDefault:
    __slots__ = ()

    def __repr__(self) -> str:
        return "<no default>"


NO_DEFAULT: Final = _NoDefault()
"""The default of a column that has none."""


_PYTHON: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "bytes": bytes,
    "naive_datetime": datetime.datetime,
    "utc_datetime": datetime.datetime,
    "duration": datetime.timedelta,
    "list": (list, tuple),
    "tuple": tuple,
    "array": np.ndarray,
    "pointer": int,
}


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """A column: its type, whether it is part of the primary key, and what it is where the input lacks it.

    `NO_DEFAULT`: that the input lacks it is an error.
    """

    dtype: DType
    primary_key: bool = False
    default_value: Any = NO_DEFAULT

    @property
    def has_default(self) -> bool:
        """Whether the input may lack it."""
        return self.default_value is not NO_DEFAULT


@dataclass(frozen=True, slots=True)
class _Given:
    """What `column_definition` was told."""

    primary_key: bool
    default_value: Any
    dtype: Any
    name: str | None


def column_definition(
    *, primary_key: bool = False, default_value: Any = NO_DEFAULT, dtype: Any = None, name: str | None = None
) -> Any:
    """More about a column of a schema: ``a: int = column_definition(default_value=0)``.

    `dtype` stands for the annotation, `name` for the attribute's name where the column's is no Python name.
    """
    return _Given(primary_key, default_value, dtype, name)


class Schema:
    """Derive from it and annotate: ``class Line(Schema): word: str``. Columns of base classes come first.

    Raises `SchemaError` for a type that no column can have, a name twice or reserved, a default that does
    not fit its type. Which names are reserved, `why_reserved` says.
    """

    _columns: typing.ClassVar[dict[str, ColumnDefinition]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        columns: dict[str, ColumnDefinition] = {}
        for base in reversed(cls.__mro__[1:]):
            columns.update(vars(base).get("_columns", {}))
        columns.update(_own_columns(cls))
        cls._columns = columns

    @classmethod
    def columns(cls) -> dict[str, ColumnDefinition]:
        """The columns by name, in order."""
        return dict(cls._columns)

    @classmethod
    def column_names(cls) -> list[str]:
        """The names, in order."""
        return list(cls._columns)

    @classmethod
    def primary_key_columns(cls) -> list[str] | None:
        """The names of the primary key, None if there is none."""
        return [name for name, column in cls._columns.items() if column.primary_key] or None

    @classmethod
    def dtypes(cls) -> dict[str, DType]:
        """The types by name. Raises `SchemaError` if there are none: a table that is read has a column."""
        if not cls._columns:
            raise SchemaError(
                f"{cls.__name__}: the schema has no columns. Annotate those to read: class Line(Schema): word: str."
            )
        return {name: column.dtype for name, column in cls._columns.items()}

    @classmethod
    def typehints(cls) -> Mapping[str, Any]:
        """The types by name; the same as `dtypes`."""
        return cls.dtypes()

    @classmethod
    def default_values(cls) -> dict[str, Any]:
        """The defaults of the columns that have one."""
        return {name: column.default_value for name, column in cls._columns.items() if column.has_default}


def why_reserved(name: str) -> str | None:
    """Why no column can be called `name`, None if one can."""
    if name == "id":
        return "this.id is the id of the row"
    if name.startswith("__"):
        return "names that begin with two underscores are those of the engine"
    if name == "*" or (name.startswith("^") and name.endswith("$")):
        return "Polars takes it for a pattern that stands for several columns"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "it is no valid text"
    return None


def schema_from_types(_name: str | None = None, **kwargs: Any) -> type[Schema]:
    """A schema from types given by name: ``schema_from_types(word=str, n=int)``."""
    return type(_name or "Schema", (Schema,), {"__annotations__": kwargs})


def schema_of(columns: Mapping[str, DType]) -> type[Schema]:
    """The schema of a table with these columns."""
    schema: type[Schema] = type("Schema", (Schema,), {})
    schema._columns = {name: ColumnDefinition(dtype) for name, dtype in columns.items()}
    return schema


def _own_columns(cls: type[Schema]) -> dict[str, ColumnDefinition]:
    """What the class itself annotates or defines."""
    columns: dict[str, ColumnDefinition] = {}
    hints = inspect.get_annotations(cls)
    given = {name: value for name, value in vars(cls).items() if isinstance(value, _Given)}
    for attribute in dict.fromkeys([*hints, *given]):
        definition = given.get(attribute, _Given(False, vars(cls).get(attribute, NO_DEFAULT), None, None))
        name = definition.name or attribute
        where = f"{cls.__name__}.{name}"
        if not isinstance(name, str) or not name:
            raise SchemaError(f"{cls.__name__}: {name!r} is no name of a column.")
        if (why := why_reserved(name)) is not None:
            raise SchemaError(
                f"{where!r}: the name is reserved, because {why}. Name the column otherwise, in the input too."
            )
        if name in columns:
            raise SchemaError(f"{where}: there are two columns {name!r}. Columns so far: {', '.join(columns)}.")
        if definition.dtype is None and attribute not in hints:
            raise SchemaError(f"{where}: has no type. Annotate it, or say column_definition(dtype=...).")
        annotation = definition.dtype if definition.dtype is not None else _resolved(cls, hints[attribute], where)
        dtype = DType.of(annotation, where=where)
        _check_default(definition.default_value, dtype, where)
        if definition.primary_key and dtype.optional:
            raise SchemaError(f"{where}: a column of the primary key cannot be None, so its type cannot be {dtype}.")
        columns[name] = ColumnDefinition(dtype, definition.primary_key, definition.default_value)
    return columns


def _resolved(cls: type[Schema], annotation: Any, where: str) -> Any:
    """The annotation itself where it is written as text, as under ``from __future__ import annotations``."""
    if not isinstance(annotation, str):
        return annotation
    scope = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    # A class within a function sees the names of the functions around it.
    local: dict[str, Any] = {}
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == cls.__module__:
            local = {**frame.f_locals, **local}
        frame = frame.f_back
    try:
        found = eval(annotation, dict(scope), local)
    except Exception as exc:
        raise SchemaError(f"{where}: the annotation {annotation!r} cannot be resolved: {exc}.") from exc
    return _resolved(cls, found, where)


def _check_default(value: Any, dtype: DType, where: str) -> None:
    if value is NO_DEFAULT or (value is None and dtype.optional) or dtype.kind == "json":
        return
    fits = isinstance(value, _PYTHON[dtype.kind]) and not (isinstance(value, bool) and dtype.kind != "bool")
    if dtype.kind == "float":
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if fits and dtype.kind in ("naive_datetime", "utc_datetime"):
        fits = (value.tzinfo is not None) == (dtype.kind == "utc_datetime")
    if fits and dtype.kind in ("int",):
        fits = -(2**63) <= value < 2**63
    if not fits:
        raise SchemaError(f"{where}: the default {value!r} is no {dtype}.")
    if dtype.kind == "list":
        for item in value:
            _check_default(item, dtype.args[0], where)
    if dtype.kind == "tuple":
        if len(value) != len(dtype.args):
            raise SchemaError(f"{where}: the default {value!r} is no {dtype}.")
        for item, arg in zip(value, dtype.args, strict=True):
            _check_default(item, arg, where)
