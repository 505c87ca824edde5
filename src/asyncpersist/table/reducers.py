"""What can be computed over the rows of a group. Retractions take back exactly what insertions brought.

A reducer may stand within a larger expression: ``reducers.sum(this.a) / 2 + reducers.count()``. None is
left out of `sum, avg, min, max, any, argmin, argmax`, which over nothing else are None; for the others it
is a value.
"""

from __future__ import annotations

from typing import Any, NoReturn

from asyncpersist.errors import GraphError, Unsupported
from asyncpersist.table.expression import Call, IdReference, ReducerExpression, as_expression

__all__ = [
    "any",
    "argmax",
    "argmin",
    "avg",
    "count",
    "count_distinct",
    "count_distinct_approximate",
    "earliest",
    "latest",
    "max",
    "min",
    "ndarray",
    "sorted_tuple",
    "stateful_many",
    "stateful_single",
    "sum",
    "tuple",
    "udf_reducer",
    "unique",
]


def _reducer(kind: str, arg: Any, *, skip_nones: bool = False) -> ReducerExpression:
    return ReducerExpression(kind, (as_expression(arg),), skip_nones)


def count(*args: Any) -> ReducerExpression:
    """The number of rows, whatever they hold. Arguments are taken for the sake of older programs and say nothing."""
    return ReducerExpression("count", ())


def sum(expression: Any, strict: bool = False) -> ReducerExpression:
    """The sum of ints (an error beyond 64 bits), floats or durations. `strict` says nothing: sums never drift."""
    return _reducer("sum", expression)


def avg(expression: Any) -> ReducerExpression:
    """The mean of ints or floats, as a float; of durations, as a duration."""
    return _reducer("avg", expression)


def min(expression: Any) -> ReducerExpression:
    """The smallest value."""
    return _reducer("min", expression)


def max(expression: Any) -> ReducerExpression:
    """The largest value."""
    return _reducer("max", expression)


def any(expression: Any) -> ReducerExpression:
    """One of the values: the smallest, so that it does not depend on the order of arrival."""
    return _reducer("any", expression)


def unique(expression: Any) -> ReducerExpression:
    """The value that all rows have; rows that differ are an error."""
    return _reducer("unique", expression)


def argmin(expression: Any, id: Any = None) -> ReducerExpression:
    """The id of the row with the smallest value; of several, the smallest id."""
    return _arg("argmin", expression, id)


def argmax(expression: Any, id: Any = None) -> ReducerExpression:
    """The id of the row with the largest value; of several, the smallest id."""
    return _arg("argmax", expression, id)


def count_distinct(*args: Any) -> ReducerExpression:
    """The number of different values, or of different tuples of several."""
    if not args:
        raise GraphError("reducers.count_distinct needs a column.")
    if len(args) == 1:
        return _reducer("count_distinct", args[0])
    return _reducer("count_distinct", Call("make_tuple", (*map(as_expression, args),)))


def tuple(expression: Any, *, skip_nones: bool = False) -> ReducerExpression:
    """All values as a list, in the order of row ids, which is stable over runs and says nothing of arrival."""
    return _reducer("tuple", expression, skip_nones=skip_nones)


def sorted_tuple(expression: Any, *, skip_nones: bool = False) -> ReducerExpression:
    """All values as a sorted list, None first."""
    return _reducer("sorted_tuple", expression, skip_nones=skip_nones)


def _arg(kind: str, expression: Any, id: Any) -> ReducerExpression:
    if id is not None and not isinstance(id, IdReference):
        raise Unsupported(f"reducers.{kind}(id=...) with another id than the row's own is not built yet.")
    return _reducer(kind, expression)


def _not_built(name: str, instead: str = "") -> Any:
    def reducer(*args: Any, **kwargs: Any) -> NoReturn:
        raise Unsupported(f"reducers.{name} is not built yet.{instead}")

    reducer.__name__ = reducer.__qualname__ = name
    reducer.__doc__ = "Not built yet."
    return reducer


earliest = _not_built("earliest")
latest = _not_built("latest")
ndarray = _not_built("ndarray", " Use reducers.tuple for a list.")
count_distinct_approximate = _not_built("count_distinct_approximate", " Use reducers.count_distinct, which is exact.")
stateful_single = _not_built("stateful_single")
stateful_many = _not_built("stateful_many")
udf_reducer = _not_built("udf_reducer")
