"""Functions as users write them: a decorator, classes, and what is applied to columns once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, Unpack, overload

from asyncpersist.dtypes import DType
from asyncpersist.errors import GraphError
from asyncpersist.table.application import Application
from asyncpersist.table.expression import as_expression
from asyncpersist.udfs.annotations import check_arguments, columns_of, result_of
from asyncpersist.udfs.caches import CacheStrategy
from asyncpersist.udfs.calling.choosing import check_executor
from asyncpersist.udfs.executors import Executor, FullyAsyncExecutor, async_executor, auto_executor
from asyncpersist.udfs.function import Columns, Function
from asyncpersist.udfs.identity import qualified_name, settings_of, token_of

__all__ = ["UDF", "Options", "apply", "apply_async", "apply_with_type", "udf"]


class Options(TypedDict, total=False):
    """The options of `udf`, which says what they mean."""

    return_type: Any
    deterministic: bool
    propagate_none: bool
    executor: Executor | None
    cache_strategy: CacheStrategy | None
    max_batch_size: int | None
    version: str | int | None
    columns: Columns | None


class UDF:
    """A function of users over columns: calling it with expressions gives an expression.

    Made by `udf`, or as a class of one's own: a subclass whose ``__wrapped__(self, ...)``, plain or a coroutine
    function, is called for rows; its ``__init__`` passes the options of `udf` on to this one. Plain values among the
    attributes of an instance (numbers, texts, tuples of them; not those that begin with ``_``) count as part of what it
    is: with others its results are others.

    `func` is what is called.
    """

    func: Callable[..., Any]

    def __init__(self, **options: Unpack[Options]) -> None:
        wrapped = getattr(self, "__wrapped__", None)
        if wrapped is None:
            raise TypeError(f"{type(self).__name__} has no method __wrapped__, which is what is called for rows")
        _refuse_unknown(options)
        self._setup(wrapped, **options)

    def _setup(self, func: Callable[..., Any], **options: Unpack[Options]) -> None:
        self.func = func
        self._options = _Options(func, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Application:
        """What it returns for these columns. Raises `GraphError` if the arguments do not fit its parameters."""
        if "_options" not in vars(self):
            raise TypeError(f"{type(self).__name__}.__init__ has to call super().__init__(), with the options if any")
        options = self._options
        try:
            inspect.signature(self.func).bind(*args, **kwargs)
        except TypeError as exc:
            raise GraphError(f"{options.label}: {exc}. It is called once for each row, with the values.") from exc
        except ValueError:
            pass  # some built-in functions do not say what they take
        keywords = tuple(sorted(kwargs))
        every = (*args, *(kwargs[name] for name in keywords))
        return Application(_Named(options, settings_of(self.func)), tuple(map(as_expression, every)), keywords)

    def __repr__(self) -> str:
        return f"udf {self._options.label}"


class _FunctionUDF(UDF):
    """A function that was decorated."""

    def __init__(self, func: Callable[..., Any], **options: Unpack[Options]) -> None:
        self._setup(func, **options)
        functools.update_wrapper(self, func)


class _Options:
    """What was said of a function, checked."""

    def __init__(
        self,
        func: Callable[..., Any],
        *,
        return_type: Any = None,
        deterministic: bool = False,
        propagate_none: bool = False,
        executor: Executor | None = None,
        cache_strategy: CacheStrategy | None = None,
        max_batch_size: int | None = None,
        version: str | int | None = None,
        columns: Columns | None = None,
    ) -> None:
        if not callable(func):
            raise TypeError(f"udf takes a function, not {func!r}")
        if isinstance(func, type):
            raise TypeError(f"{func.__name__} is a class: make it a subclass of UDF, with a method __wrapped__")
        self.func = func
        self.name = qualified_name(func)
        self.label = self.name.rpartition(".")[2]
        for name, value in (("deterministic", deterministic), ("propagate_none", propagate_none)):
            if not isinstance(value, bool):
                raise TypeError(f"{self.label}: {name} must be a bool, not {value!r}")
        if executor is not None and not isinstance(executor, Executor):
            raise TypeError(
                f"{self.label}: executor must be one of asyncpersist.udfs, as udfs.async_executor(), not {executor!r}"
            )
        if cache_strategy is not None and not isinstance(cache_strategy, CacheStrategy):
            raise TypeError(
                f"{self.label}: cache_strategy must be one of asyncpersist.udfs, as udfs.DefaultCache(), not "
                f"{cache_strategy!r}"
            )
        if max_batch_size is not None and (
            not isinstance(max_batch_size, int) or isinstance(max_batch_size, bool) or max_batch_size < 1
        ):
            raise ValueError(f"{self.label}: max_batch_size must be at least 1, or None, not {max_batch_size!r}")
        if version is not None and not isinstance(version, str | int):
            raise TypeError(f"{self.label}: version must be a text or a number, not {version!r}")
        if columns not in (None, "polars", "numpy"):
            raise ValueError(f'{self.label}: columns must be "polars", "numpy" or None, not {columns!r}')
        if cache_strategy is not None and version is None and "<lambda>" in self.name:
            raise GraphError(
                f"{self.name}: a lambda has no name by which its results could be told from another one's. Write a "
                "def, or give a version=."
            )
        self.columns = columns or columns_of(func)
        self.result = result_of(func, self.label, return_type, lists=max_batch_size is not None, columns=self.columns)
        self.deterministic = deterministic
        self.propagate_none = propagate_none
        self.executor = auto_executor() if executor is None else executor
        self.cache = cache_strategy
        self.max_batch_size = max_batch_size
        self.version = None if version is None else str(version)


class _Named:
    """A function as expressions hold it; satisfies `Applicable`."""

    def __init__(self, options: _Options, settings: Mapping[str, Any]) -> None:
        self._options = options
        self._settings = settings
        self.label = options.label
        self.repeatable = options.deterministic or options.cache is not None
        self.token = token_of(options.func)
        self.pending = isinstance(options.executor, FullyAsyncExecutor)

    def canonical(self) -> Any:
        return [self._options.name, self._options.version, dict(self._settings)]

    def bind(self, takes: tuple[DType, ...], keywords: tuple[str, ...]) -> Function:
        options = self._options
        result = options.result
        if options.propagate_none and any(dtype.optional for dtype in takes):
            result = result.as_optional()
        check_arguments(
            options.func, options.label, takes, keywords, rows=not (options.columns or options.max_batch_size)
        )
        function = Function(
            call=options.func,
            name=options.name,
            takes=takes,
            keywords=keywords,
            result=result,
            version=options.version,
            settings=self._settings,
            deterministic=options.deterministic,
            propagate_none=options.propagate_none,
            executor=options.executor,
            cache=options.cache,
            max_batch_size=options.max_batch_size,
            columns=options.columns,
        )
        check_executor(function)
        return function


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    if unknown := options.keys() - Options.__annotations__:
        there = ", ".join(Options.__annotations__)
        raise TypeError(f"udf has no option {', '.join(sorted(unknown))}; there are {there}")


@overload
def udf(func: Callable[..., Any], /, **options: Unpack[Options]) -> UDF: ...


@overload
def udf(**options: Unpack[Options]) -> Callable[[Callable[..., Any]], UDF]: ...


def udf(func: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Makes a function of Python values one of columns: ``@udf`` or ``@udf(...)``, over ``def`` or ``async def``.

    - `return_type`: the type of what it returns, by default its annotation.
    - `deterministic`: it always returns the same for the same. If not (default), what it returned for a row is kept
      while the row is there, so that exactly this is taken back with it; if so, it is called again instead.
    - `propagate_none`: a row with None among the arguments has None, and no call.
    - `executor`: where it runs; by default `udfs.auto_executor()`.
    - `cache_strategy`: where results are kept for equal arguments; by default nowhere.
    - `max_batch_size`: it takes lists of up to so many values, and returns a list of as many.
    - `columns`: it takes and returns whole columns, `"polars"` series (as is understood where all its parameters are
      annotated `pl.Series`) or `"numpy"` arrays.
    - `version`: changes what it is known by, so that what an older version returned counts no more.

    A function is known by its module and name, `version`, and the types of its arguments and result; never by its code.
    Raises `GraphError`, `TypeError` or `ValueError` for what cannot be meant.
    """
    _refuse_unknown(options)
    if func is not None:
        return _FunctionUDF(func, **options)
    return functools.partial(_FunctionUDF, **options)


def apply(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Application:
    """``udf(fun)(*args, **kwargs)``: what a function returns for columns; its type is the function's annotation."""
    return (fun if isinstance(fun, UDF) else udf(fun))(*args, **kwargs)


def apply_with_type(fun: Callable[..., Any], ret_type: Any, *args: Any, **kwargs: Any) -> Application:
    """The same with the type of what is returned."""
    return udf(fun, return_type=ret_type)(*args, **kwargs)


def apply_async(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Application:
    """The same for a coroutine function; a plain one runs in threads, several calls at once."""
    return udf(fun, executor=async_executor())(*args, **kwargs)
