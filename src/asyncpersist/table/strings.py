"""Methods of text: ``this.a.str``. Positions count characters; arguments may be expressions unless said otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from asyncpersist.table.expression import Call, ColumnExpression, as_expression

__all__ = ["StringNamespace"]


@dataclass(frozen=True, slots=True)
class StringNamespace:
    """What a text column can do.

    `find`, `rfind`, `split`, `swapcase`, `title`, and
    others with arguments that differ by row, go through rows one by one.
    """

    column: ColumnExpression

    def _call(self, op: str, *args: Any, **options: Any) -> ColumnExpression:
        return Call(f"str.{op}", (self.column, *map(as_expression, args)), options)

    def lower(self) -> ColumnExpression:
        """In lower case."""
        return self._call("lower")

    def upper(self) -> ColumnExpression:
        """In upper case."""
        return self._call("upper")

    def swapcase(self) -> ColumnExpression:
        """Upper case made lower and the other way round."""
        return self._call("swapcase")

    def title(self) -> ColumnExpression:
        """Every word with a capital, as Python's `str.title`."""
        return self._call("title")

    def reversed(self) -> ColumnExpression:
        """From the last character to the first."""
        return self._call("reversed")

    def len(self) -> ColumnExpression:
        """The number of characters."""
        return self._call("len")

    def strip(self, chars: Any = None) -> ColumnExpression:
        """Without `chars` (default: white space) at both ends."""
        return self._call("strip", *(() if chars is None else (chars,)))

    def count(self, sub: Any, start: Any = None, end: Any = None) -> ColumnExpression:
        """How often `sub` occurs, without overlaps, in ``[start:end]``."""
        return self._call("count", sub, *_bounds(start, end))

    def find(self, sub: Any, start: Any = None, end: Any = None) -> ColumnExpression:
        """Where `sub` first begins in ``[start:end]``; -1 if it does not occur."""
        return self._call("find", sub, *_bounds(start, end))

    def rfind(self, sub: Any, start: Any = None, end: Any = None) -> ColumnExpression:
        """Where `sub` last begins in ``[start:end]``; -1 if it does not occur."""
        return self._call("rfind", sub, *_bounds(start, end))

    def startswith(self, prefix: Any) -> ColumnExpression:
        """Whether it begins with `prefix`."""
        return self._call("startswith", prefix)

    def endswith(self, suffix: Any) -> ColumnExpression:
        """Whether it ends with `suffix`."""
        return self._call("endswith", suffix)

    def removeprefix(self, prefix: Any, /) -> ColumnExpression:
        """Without `prefix`, if it begins with it."""
        return self._call("removeprefix", prefix)

    def removesuffix(self, suffix: Any, /) -> ColumnExpression:
        """Without `suffix`, if it ends with it."""
        return self._call("removesuffix", suffix)

    def replace(self, old_value: Any, new_value: Any, count: Any = -1, /) -> ColumnExpression:
        """With the first `count` (-1: all) occurrences of `old_value` replaced."""
        return self._call("replace", old_value, new_value, count)

    def slice(self, start: Any, end: Any, /) -> ColumnExpression:
        """The characters ``[start:end]``; negative positions count from the end."""
        return self._call("slice", start, end)

    def split(self, separator: Any) -> ColumnExpression:
        """The parts between the separators, as a list."""
        return self._call("split", separator)

    def parse_int(self, optional: bool = False) -> ColumnExpression:
        """The integer it spells; otherwise None if `optional`, an error of the row if not."""
        return self._call("parse_int", optional=optional)

    def parse_float(self, optional: bool = False) -> ColumnExpression:
        """The number it spells; otherwise None if `optional`, an error of the row if not."""
        return self._call("parse_float", optional=optional)

    def parse_bool(
        self,
        true_values: Iterable[str] = ("on", "true", "yes", "1"),
        false_values: Iterable[str] = ("off", "false", "no", "0"),
        optional: bool = False,
    ) -> ColumnExpression:
        """Which of the words it is, in any case; if none, None if `optional`, an error of the row if not."""
        return self._call(
            "parse_bool",
            true_values=sorted({word.lower() for word in true_values}),
            false_values=sorted({word.lower() for word in false_values}),
            optional=optional,
        )


def _bounds(start: Any, end: Any) -> tuple[Any, ...]:
    if start is None and end is None:
        return ()
    return (0 if start is None else start, 2**62 if end is None else end)
