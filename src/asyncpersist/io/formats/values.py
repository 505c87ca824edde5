"""Single values out of JSON and text, strictly: what fits a type and what it becomes.

| kind | in JSON | in text |
|---|---|---|
| int | an integer of 64 bits | digits with an optional sign; spaces and tabs before them |
| float | a number | a number, `nan`, `inf`, `infinity` in any case |
| bool | true, false | `true`, `false` in any case, `1`, `0` |
| naive_datetime, utc_datetime | ISO 8601 text, without and with a zone | the same |
| duration | nanoseconds; or text as ISO 8601 (`P1DT2H3.5S`) or `[D days, ]H:MM:SS[.f]` | the same |
| bytes | base64 text | the same |
| json | any value | JSON |
| list, tuple | an array | JSON |
| array | an array of (arrays of) numbers, or `{"shape": [...], "elements": [...]}` | JSON |
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from asyncpersist.dtypes import DType
from asyncpersist.io.formats.format import Broken

__all__ = ["from_json", "from_text", "json_of", "stored"]

_INTEGER = re.compile(r"[ \t]*[+-]?[0-9]+")
_FLOAT = re.compile(
    r"[ \t]*[+-]?([0-9]+\.?[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|nan|inf|infinity)", re.IGNORECASE
)
_ISO_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?=.)(?:(?P<weeks>\d+(?:\.\d+)?)W)?(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?=.)(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_CLOCK_DURATION = re.compile(
    r"(?:(?P<days>-?\d+) days?, )?(?P<hours>\d+):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d(?:\.\d{1,6})?)"
)
_LONGEST = datetime.timedelta(microseconds=(1 << 63) - 1)
_MOST_NANOSECONDS = ((1 << 63) - 1) * 1000
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def from_json(value: Any, dtype: DType) -> Any:
    """A decoded JSON value as one of the column; `Broken` if it does not fit. None is the caller's affair,
    except in `json`.
    """
    convert = _FROM_JSON.get(dtype.kind)
    if convert is None:
        raise Broken(f"expected {dtype}, which cannot be read from a file")
    return convert(value, dtype)


def from_text(text: str, dtype: DType) -> Any:
    """A field of text as a value of the column; `Broken` if it does not fit."""
    kind = dtype.kind
    if kind == "str":
        return text
    if kind == "int" and _INTEGER.fullmatch(text):
        return _int64(int(text) if len(text) < 100 else 1 << 64, text, dtype)
    if kind == "float" and _FLOAT.fullmatch(text):
        return float(text)
    if kind == "bool" and text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    if kind in ("int", "float", "bool"):
        raise _unfit(text, dtype)
    if kind in ("json", "list", "tuple", "array"):
        return from_json(json_of(text), dtype)
    if kind == "duration" and _INTEGER.fullmatch(text) and len(text) < 100:
        return from_json(int(text), dtype)
    return from_json(text, dtype)


def stored(value: Any, dtype: DType) -> Any:
    """A Python value, such as a schema's default, as it lies in the column."""
    if value is None:
        return None
    if dtype.kind == "list":
        return [stored(item, dtype.args[0]) for item in value]
    if dtype.kind == "tuple":
        return {f"f{i}": stored(item, arg) for i, (item, arg) in enumerate(zip(value, dtype.args, strict=True))}
    if dtype.kind == "array":
        return _array(np.asarray(value, np.float64).tolist(), dtype)
    return _json(value, dtype) if dtype.kind == "json" else value


def json_of(text: str) -> Any:
    """Decodes JSON. Of equal keys of an object the first counts. Raises `Broken`."""
    try:
        return _DECODER.decode(text.strip(" \t\r\n"))
    except RecursionError as exc:
        raise Broken("the JSON is nested too deeply") from exc
    except ValueError as exc:
        raise Broken(f"no valid JSON: {exc}") from exc


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_first_wins, parse_constant=_no_constant)


def _unfit(value: Any, dtype: DType) -> Broken:
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    return Broken(f"expected {dtype}, got {text if len(text) <= 80 else text[:77] + '...'}")


def _int64(value: int, shown: Any, dtype: DType) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise Broken(f"expected {dtype}, got {str(shown)[:80]}, which does not fit 64 bits")
    return value


def _int(value: Any, dtype: DType) -> int:
    if type(value) is not int:
        raise _unfit(value, dtype)
    return _int64(value, value, dtype)


def _float(value: Any, dtype: DType) -> float:
    if type(value) not in (int, float):
        raise _unfit(value, dtype)
    try:
        number = float(value)
    except OverflowError:
        number = np.inf
    if np.isinf(number):
        raise Broken(f"expected {dtype}, got a number that is too large")
    return number


def _bool(value: Any, dtype: DType) -> bool:
    if type(value) is not bool:
        raise _unfit(value, dtype)
    return value


def _str(value: Any, dtype: DType) -> str:
    if not isinstance(value, str):
        raise _unfit(value, dtype)
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise Broken("a string holds half of a surrogate pair, which is no Unicode") from exc
    return value


def _datetime(value: Any, dtype: DType) -> datetime.datetime:
    if not isinstance(value, str) or value[4:5] != "-":
        raise _unfit(value, dtype)
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError as exc:
        raise _unfit(value, dtype) from exc
    if dtype.kind == "naive_datetime":
        if moment.tzinfo is not None:
            raise Broken(f"expected {dtype}, a date and time without a zone, got {json.dumps(value)}")
        return moment
    if moment.tzinfo is None:
        raise Broken(f"expected {dtype}, a date and time with a zone, got {json.dumps(value)}")
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError as exc:
        raise _unfit(value, dtype) from exc


def _duration(value: Any, dtype: DType) -> datetime.timedelta:
    if type(value) is int and abs(value) <= _MOST_NANOSECONDS:
        return datetime.timedelta(microseconds=value // 1000)
    match = isinstance(value, str) and (_ISO_DURATION.fullmatch(value) or _CLOCK_DURATION.fullmatch(value))
    if not match:
        raise _unfit(value, dtype)
    parts = match.groupdict()
    sign = -1 if parts.pop("sign", "") == "-" else 1
    try:
        span = sign * datetime.timedelta(**{unit: float(n) for unit, n in parts.items() if n is not None})
    except OverflowError as exc:
        raise _unfit(value, dtype) from exc
    if abs(span) > _LONGEST:
        raise _unfit(value, dtype)
    return span


def _bytes(value: Any, dtype: DType) -> bytes:
    if not isinstance(value, str):
        raise _unfit(value, dtype)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Broken(f"expected {dtype} as base64 text: {exc}") from exc


def _json(value: Any, dtype: DType) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError as exc:
        raise Broken(f"expected {dtype}, got a number that is too large") from exc
    return _str(text, dtype)


def _item(value: Any, dtype: DType) -> Any:
    if value is None and dtype.kind != "json":
        if dtype.optional:
            return None
        raise _unfit(value, dtype)
    return from_json(value, dtype)


def _list(value: Any, dtype: DType) -> list[Any]:
    if not isinstance(value, list):
        raise _unfit(value, dtype)
    return [_item(item, dtype.args[0]) for item in value]


def _tuple(value: Any, dtype: DType) -> dict[str, Any]:
    if not isinstance(value, list) or len(value) != len(dtype.args):
        raise _unfit(value, dtype)
    return {f"f{i}": _item(item, arg) for i, (item, arg) in enumerate(zip(value, dtype.args, strict=True))}


def _array(value: Any, dtype: DType) -> dict[str, Any]:
    shape = None
    if isinstance(value, dict) and value.keys() == {"shape", "elements"}:
        value, shape = value["elements"], value["shape"]
    if not isinstance(value, list) or not _is_numeric(value):
        raise _unfit(value, dtype)
    if shape is not None and not (isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)):
        raise _unfit(shape, dtype)
    try:
        array = np.array(value, dtype=np.float64)
        array = array if shape is None else array.reshape(shape)
    except (ValueError, OverflowError) as exc:
        raise _unfit(value, dtype) from exc
    return {"data": array.ravel().tolist(), "shape": list(array.shape)}


def _is_numeric(value: list[Any]) -> bool:
    return all(_is_numeric(item) if isinstance(item, list) else type(item) in (int, float) for item in value)


_FROM_JSON: dict[str, Callable[[Any, DType], Any]] = {
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
}
