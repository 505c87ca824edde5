"""Values of Python as they lie in columns, and back: what fits a type and what it becomes.

| kind | given as | comes back as |
|---|---|---|
| int | an int or NumPy integer of 64 bits, no bool | int |
| float | a float or an int, NumPy's too, no bool | float |
| bool, str | bool (NumPy's too), str | the same |
| bytes | bytes, bytearray, memoryview | bytes |
| naive_datetime, utc_datetime | a datetime without, with a zone | datetime, in UTC |
| duration | timedelta | timedelta |
| json | what `json.dumps` takes; None is null unless the column is optional | what `json.loads` gives |
| list, tuple | a list or tuple, or a one-dimensional NumPy array | list, tuple |
| array | a NumPy array or (nested) list of numbers | `numpy.ndarray` of float64 |
| pointer | an int of 128 bits | `Pointer` |
| object | a `PyObjectWrapper`, whose value is pickled | the same |
| future | never | its value, or `PENDING` |

None fits an optional column. The fast way takes what consists of exactly these types; whatever else is looked at value
by value, which decides.
"""

from __future__ import annotations

import datetime
import itertools
import json
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from asyncpersist.dtypes import PENDING, DType, Pointer, PyObjectWrapper

__all__ = ["Misfit", "column_of", "fitted", "values_of"]

_EXACT: dict[str, frozenset[type]] = {
    "int": frozenset({int}),
    "float": frozenset({float, int}),
    "bool": frozenset({bool}),
    "str": frozenset({str}),
    "bytes": frozenset({bytes}),
    "naive_datetime": frozenset({datetime.datetime}),
    "utc_datetime": frozenset({datetime.datetime}),
    "duration": frozenset({datetime.timedelta}),
}
_NONE = type(None)
_REFUSED = (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError)


class _Unfit(Exception):
    """A value that does not fit; the message says why."""


class Misfit(Exception):
    """The value at `index` does not fit; the message says why."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def column_of(name: str, dtype: DType, values: Sequence[Any]) -> pl.Series:
    """The values as a column, in exactly its type. Raises `Misfit`."""
    if _fits_at_once(values, dtype):
        try:
            return pl.Series(name, values, dtype=dtype.polars, strict=True)
        except _REFUSED:
            pass  # which value it is, the careful way says
    careful = []
    for index, value in enumerate(values):
        try:
            careful.append(_stored(value, dtype))
        except _Unfit as exc:
            raise Misfit(index, str(exc)) from exc
    return pl.Series(name, careful, dtype=dtype.polars, strict=True)


def fitted(column: pl.Series, dtype: DType) -> pl.Series:
    """A column of any Polars type as one of exactly this type, where no value is lost by it. Raises `Misfit`."""
    if column.dtype == dtype.polars and dtype.kind != "json" and not (_nested(dtype) and _holds_none(column, dtype)):
        found = column
    elif (cast := _lossless(column, dtype)) is not None:
        found = cast
    else:
        return column_of(column.name, dtype, column.to_list())
    if not dtype.optional and found.null_count():
        index = found.is_null().arg_max()
        raise Misfit(0 if index is None else index, f"expected {dtype}, got None")
    return found


def values_of(column: pl.Series, dtype: DType) -> list[Any]:
    """The column as Python values. Holds the interpreter for about 0.1 µs per value, more for what is nested."""
    if dtype.kind == "future":
        known = values_of(column.struct.field("value"), dtype.args[0])
        done = column.struct.field("done").to_list()
        return [value if there else PENDING for value, there in zip(known, done, strict=True)]
    values: list[Any] = column.to_list()
    if dtype.kind in _EXACT or (dtype.kind == "list" and dtype.args[0].kind in _EXACT):
        return values
    return [_given(value, dtype) for value in values]


def _holds_none(column: pl.Series, dtype: DType) -> bool:
    """Whether None may lie within a value of a nested type that does not allow it. Quick for lists of plain items."""
    if dtype.kind != "list" or _nested(dtype.args[0]) or dtype.args[0].kind == "json":
        return True
    return not dtype.args[0].optional and bool(column.filter(column.list.len() > 0).explode().null_count())


def _nested(dtype: DType) -> bool:
    """Whether None may lie within a value, where a Polars type does not forbid it."""
    return bool(dtype.args) or dtype.kind == "array"


def _fits_at_once(values: Sequence[Any], dtype: DType) -> bool:
    if dtype.kind == "list":
        return _are(values, frozenset({list}), dtype.optional) and _fits_at_once(
            list(itertools.chain.from_iterable(value for value in values if value is not None)), dtype.args[0]
        )
    exact = _EXACT.get(dtype.kind)
    if exact is None or not _are(values, exact, dtype.optional):
        return False
    if dtype.kind in ("naive_datetime", "utc_datetime"):
        zoned = dtype.kind == "utc_datetime"
        return all(value is None or (value.tzinfo is not None) == zoned for value in values)
    return True


def _are(values: Sequence[Any], exact: frozenset[type], optional: bool) -> bool:
    types = set(map(type, values))
    if optional:
        types.discard(_NONE)
    return types <= exact


def _lossless(column: pl.Series, dtype: DType) -> pl.Series | None:
    """A cast that keeps every value, if there is one that every value of the two types allows."""
    have, kind = column.dtype, dtype.kind
    fits = (
        (kind == "int" and have.is_integer())
        or (kind == "float" and have.is_numeric() and not have.is_decimal())
        or (kind == "str" and isinstance(have, (pl.Categorical, pl.Enum)))
        or (kind == "pointer" and have.is_unsigned_integer())
        or (kind == "naive_datetime" and isinstance(have, pl.Datetime) and have.time_zone is None)
        or (kind == "utc_datetime" and isinstance(have, pl.Datetime) and have.time_zone is not None)
        or (kind == "duration" and isinstance(have, pl.Duration))
        or (have == pl.Null and kind != "json")
    )
    if not fits:
        return None
    if isinstance(have, pl.Datetime) and have.time_zone is not None:
        column = column.dt.convert_time_zone("UTC")
    cast = column.cast(dtype.polars, strict=False)
    back = cast.cast(column.dtype, strict=False) if have.is_temporal() else cast
    lost = (back != column) if have.is_temporal() else (cast.is_null() & column.is_not_null())
    if (index := lost.fill_null(False).arg_max()) is not None and lost[index]:
        raise Misfit(index, f"expected {dtype}, got {column[index]}, which cannot be kept exactly")
    return cast


def _stored(value: Any, dtype: DType) -> Any:
    """A value as Polars takes it for the column. Raises `_Unfit`."""
    if value is None and (dtype.optional or dtype.kind != "json"):
        if dtype.optional:
            return None
        raise _Unfit(f"expected {dtype}, got None")
    return _STORED[dtype.kind](value, dtype)


def _unfit(value: Any, dtype: DType) -> _Unfit:
    text = repr(value)
    return _Unfit(f"expected {dtype}, got {text if len(text) <= 80 else text[:77] + '...'}")


def _int(value: Any, dtype: DType) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise _unfit(value, dtype)
    if not -(1 << 63) <= value < 1 << 63:
        raise _Unfit(f"expected {dtype}, got {str(value)[:80]}, which does not fit 64 bits")
    return int(value)


def _float(value: Any, dtype: DType) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise _unfit(value, dtype)
    try:
        return float(value)
    except OverflowError as exc:
        raise _Unfit(f"expected {dtype}, got an int that is too large") from exc


def _bool(value: Any, dtype: DType) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise _unfit(value, dtype)
    return bool(value)


def _str(value: Any, dtype: DType) -> str:
    if not isinstance(value, str):
        raise _unfit(value, dtype)
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise _Unfit(f"expected {dtype}, got half of a surrogate pair, which is no Unicode") from exc
    return str(value)


def _bytes(value: Any, dtype: DType) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise _unfit(value, dtype)
    return bytes(value)


def _datetime(value: Any, dtype: DType) -> datetime.datetime:
    if not isinstance(value, datetime.datetime):
        raise _unfit(value, dtype)
    zoned = dtype.kind == "utc_datetime"
    if (value.tzinfo is not None) != zoned:
        raise _Unfit(f"expected {dtype}, a datetime {'with' if zoned else 'without'} a zone, got {value!r}")
    try:
        moment = value.astimezone(datetime.UTC) if zoned else value
    except OverflowError as exc:
        raise _unfit(value, dtype) from exc
    return datetime.datetime.combine(moment.date(), moment.timetz())


def _duration(value: Any, dtype: DType) -> datetime.timedelta:
    if not isinstance(value, datetime.timedelta):
        raise _unfit(value, dtype)
    return datetime.timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)


def _items(value: Any, dtype: DType) -> list[Any]:
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return list(value)
    if not isinstance(value, (list, tuple)):
        raise _unfit(value, dtype)
    return list(value)


def _list(value: Any, dtype: DType) -> list[Any]:
    return [_stored(item, dtype.args[0]) for item in _items(value, dtype)]


def _tuple(value: Any, dtype: DType) -> dict[str, Any]:
    if isinstance(value, dict) and list(value) == [f"f{i}" for i in range(len(dtype.args))]:
        value = list(value.values())  # as Polars gives it back out of a frame
    items = _items(value, dtype)
    if len(items) != len(dtype.args):
        raise _unfit(value, dtype)
    return {f"f{i}": _stored(item, arg) for i, (item, arg) in enumerate(zip(items, dtype.args, strict=True))}


def _array(value: Any, dtype: DType) -> dict[str, Any]:
    if isinstance(value, dict) and list(value) == ["data", "shape"]:
        value = np.array(value["data"], np.float64).reshape(value["shape"])
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise _unfit(value, dtype)
    try:
        array = np.asarray(value)
        if array.size and array.dtype.kind not in "iuf":
            raise _unfit(value, dtype)
        return {"data": array.astype(np.float64).ravel().tolist(), "shape": list(array.shape)}
    except (ValueError, OverflowError) as exc:
        raise _unfit(value, dtype) from exc


def _json(value: Any, dtype: DType) -> str:
    try:
        return _str(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False), dtype)
    except (TypeError, RecursionError) as exc:
        raise _Unfit(f"expected {dtype}, got what JSON cannot hold: {exc}") from exc
    except ValueError as exc:
        raise _Unfit(f"expected {dtype}, got a number that is too large") from exc


def _object(value: Any, dtype: DType) -> bytes:
    if not isinstance(value, PyObjectWrapper):
        raise _unfit(value, dtype)
    try:
        return pickle.dumps(value.value)
    except Exception as exc:  # whatever the object raises
        raise _Unfit(f"expected {dtype}, got what cannot be pickled: {exc}") from exc


def _pointer(value: Any, dtype: DType) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 128:
        raise _unfit(value, dtype)
    return int(value)


_STORED: dict[str, Callable[[Any, DType], Any]] = {
    "int": _int,
    "float": _float,
    "bool": _bool,
    "str": _str,
    "bytes": _bytes,
    "naive_datetime": _datetime,
    "utc_datetime": _datetime,
    "duration": _duration,
    "json": _json,
    "list": _list,
    "tuple": _tuple,
    "array": _array,
    "pointer": _pointer,
    "object": _object,
}


def _given(value: Any, dtype: DType) -> Any:
    if value is None:
        return None
    if dtype.kind == "json":
        return json.loads(value)
    if dtype.kind == "list":
        return [_given(item, dtype.args[0]) for item in value]
    if dtype.kind == "tuple":
        return tuple(_given(item, arg) for item, arg in zip(value.values(), dtype.args, strict=True))
    if dtype.kind == "array":
        return np.array(value["data"], np.float64).reshape(value["shape"])
    if dtype.kind == "object":
        return PyObjectWrapper(pickle.loads(value))
    return Pointer(value) if dtype.kind == "pointer" else value
