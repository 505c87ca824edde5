"""`module:graph` on the command line: from a text to the graph it names."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import inspect
import os
import sys
import warnings
from pathlib import Path
from traceback import clear_frames
from types import ModuleType
from typing import Any

from asyncpersist.errors import GraphError
from asyncpersist.graph.context import Graph

__all__ = ["load_graph"]


def load_graph(target: str) -> Graph:
    """The graph that `target` names, its module imported; to be called inside a running event loop.

    `target` is ``module:name`` or ``path/to/file.py:name``. The name, which may have dots, is that of a `Graph` or of a
    callable without arguments that returns one; without a name it is what the module defined while it was imported,
    outside of any ``with Graph()``. The current directory is importable; for a file, its directory is, too.

    Raises `GraphError` for a target that names no such thing, and whatever the module raises.
    """
    place, colon, name = target.rpartition(":")
    if not colon:
        place, name = target, ""
    if not place or (colon and not all(part.isidentifier() for part in name.split("."))):
        raise GraphError(f"{target!r} names no graph; write module:graph or path/to/file.py:graph")
    with Graph() as defined:
        module = _import(place)
    if not colon:
        return _defined(module, place, defined)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise GraphError(f"{place} has no {name!r}; {_named_graphs(module, place)}")
        found = getattr(found, part)
    return _graph(found, target)


def _import(place: str) -> ModuleType:
    _importable(Path.cwd())
    try:
        if place.endswith(".py") or os.sep in place:
            return _import_file(Path(place))
        return importlib.import_module(place)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{place}.".startswith(f"{exc.name}."):
            raise
        raise GraphError(
            f"there is no module {exc.name!r}, neither in {Path.cwd()} nor installed; "
            "write module:graph or path/to/file.py:graph"
        ) from exc
    except RuntimeError as exc:
        # A module that runs its graph when it is imported is stopped by the loop that runs already.
        if "running event loop" not in str(exc):
            raise
        _drop_coroutines(exc)
        raise GraphError(
            f"{place} runs its graph by itself when it is imported; put the call of asyncio.run under "
            'if __name__ == "__main__":'
        ) from exc
    except SystemExit as exc:
        raise GraphError(f"{place} ended with exit code {exc.code!r} when it was imported") from exc


def _drop_coroutines(error: BaseException) -> None:
    """Frees what the frames of `error` hold, without the warning that a coroutine among it was never awaited."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)
        clear_frames(error.__traceback__)
        gc.collect()


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise GraphError(f"there is no file {path}; write module:graph or path/to/file.py:graph")
    name = path.stem
    if name in sys.modules:
        raise GraphError(f"{path} cannot be loaded, for another module of the name {name!r} is; rename the file")
    _importable(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise GraphError(f"{path} is no Python file: its name has to end in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _importable(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _defined(module: ModuleType, place: str, graph: Graph) -> Graph:
    if not graph.sinks:
        raise GraphError(
            f"{place} defines no output when it is imported, so there is nothing to run; {_named_graphs(module, place)}"
        )
    return graph


def _graph(found: Any, target: str) -> Graph:
    if callable(found) and not isinstance(found, Graph):
        if inspect.iscoroutinefunction(found):
            raise GraphError(f"{target} is a coroutine function; it has to be a plain one that returns a Graph")
        with Graph():
            found = found()
        target += "()"
    if not isinstance(found, Graph):
        raise GraphError(f"{target} is no Graph but of type {type(found).__name__}")
    return found


def _named_graphs(module: ModuleType, place: str) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Graph)]
    if not names:
        return "write one as `with asyncpersist.Graph() as graph:` and name it"
    return f"its graphs are {', '.join(f'{place}:{name}' for name in names)}"
