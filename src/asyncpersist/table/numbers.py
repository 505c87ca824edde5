"""Methods of numbers: ``this.a.num``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asyncpersist.table.expression import Call, ColumnExpression, as_expression

__all__ = ["NumericalNamespace"]


@dataclass(frozen=True, slots=True)
class NumericalNamespace:
    """What an int or float column can do."""

    column: ColumnExpression

    def abs(self) -> ColumnExpression:
        """The absolute value; also of a duration."""
        return Call("abs", (self.column,))

    def round(self, decimals: int = 0) -> ColumnExpression:
        """To so many digits after the point, before it if negative; halves to the even neighbour. The type stays."""
        return Call("num.round", (self.column,), {"decimals": decimals})

    def fill_na(self, default_value: Any) -> ColumnExpression:
        """`default_value` in place of None and NaN."""
        return Call("num.fill_na", (self.column, as_expression(default_value)))
