"""Who may enter whom: imports point down, are absolute, and `__all__` says what a module has."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncpersist

PACKAGE = "asyncpersist"
ROOT = Path(asyncpersist.__file__).parent

BOTTOM = {"errors", "clock", "disk", "dtypes"}
TABLES = {"table", "graph", "operators", "columnar"}
MAY_ENTER: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "disk": set(),
    "dtypes": {"errors"},
    "columnar": BOTTOM,
    "operators": {"columnar", *BOTTOM},
    "graph": {"operators", "columnar", *BOTTOM},
    "table": {"graph", "operators", "columnar", *BOTTOM},
    "io": {"objectstore", *TABLES, *BOTTOM},
    "udfs": {*TABLES, *BOTTOM},
    "objectstore": BOTTOM,
    "checkpoint": {"objectstore", *BOTTOM},
    "persistence": {"checkpoint", "objectstore", *BOTTOM},
    "runtime": {"io", "udfs", "persistence", "checkpoint", "objectstore", *TABLES, *BOTTOM},
    "": {"runtime", "io", "udfs", "persistence", "checkpoint", "objectstore", *TABLES, *BOTTOM},
    "testing": {"", "runtime", "io", "udfs", "persistence", "checkpoint", "objectstore", *TABLES, *BOTTOM},
    "__main__": {"cli"},
    "cli": {"", "runtime", "io", "udfs", "persistence", "checkpoint", "objectstore", *TABLES, *BOTTOM},
}
"""Room -> the rooms it may import from, besides itself; "" is the package's own `__init__`."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join((PACKAGE, *(part for part in parts if part != "__init__")))] = path
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker looks at."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield other
                yield from run_time(other)
        else:
            yield node
            yield from run_time(node)


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules of the package that a module imports, at its top or inside a function."""
    known = modules()
    for node in run_time(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in within]
        yield from (name for name in names if name == PACKAGE or name.startswith(PACKAGE + "."))


MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def test_every_room_has_its_place() -> None:
    unplaced = {room(name) for name in MODULES} - MAY_ENTER.keys()
    assert not unplaced, f"say in MAY_ENTER what {sorted(unplaced)} may import from"


def test_the_table_of_rooms_has_no_circle() -> None:
    left = {name: below - {name} for name, below in MAY_ENTER.items()}
    while ready := [name for name, below in left.items() if not below & left.keys()]:
        for name in ready:
            del left[name]
    assert not left


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    here = room(module)
    upward = {name for name in imported(TREES[module]) if room(name) not in MAY_ENTER[here] | {here}}
    assert not upward, f"{module} must not import {sorted(upward)}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_absolute(module: str) -> None:
    relative = [node.lineno for node in ast.walk(TREES[module]) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, f"{module}: relative imports in lines {relative}"


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__main__")])
def test_all_is_what_there_is(module: str) -> None:
    tree = TREES[module]
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_"
    }
    code = [node for node in tree.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    live = importlib.import_module(module)
    if not code:
        return
    assert hasattr(live, "__all__"), f"{module} has no __all__"
    listed = list(live.__all__)
    assert len(listed) == len(set(listed)), f"{module}.__all__ names something twice"
    missing = [name for name in listed if not hasattr(live, name)]
    assert not missing, f"{module}.__all__ names {missing}, which is not there"
    assert not defined - set(listed), f"{module}.__all__ lacks {sorted(defined - set(listed))}"
