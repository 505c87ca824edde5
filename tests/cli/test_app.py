"""The command line as a whole."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from asyncpersist.cli import app, main
from asyncpersist.errors import OutputChanged, StateInUse, StateUnwritable
from tests.cli.conftest import Command


@pytest.mark.parametrize("module", ["asyncpersist", "asyncpersist.cli"])
def test_version(module: str) -> None:
    command = [sys.executable, "-W", "error", "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"asyncpersist {importlib.metadata.version('asyncpersist')}\n",
        "",
    )


def test_without_a_command_it_says_what_there_is(command: Command) -> None:
    assert "demo" in command().out


def test_an_unknown_command_is_an_error_of_usage(command: Command) -> None:
    done = command("explode")
    assert done.code == 2
    assert "explode" in done.err


def test_an_error_of_the_package_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise StateInUse("state is in use\n  by process 7; stop it")

    monkeypatch.setattr(app, "_app", refuse)
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    assert capsys.readouterr().err == "asyncpersist: state is in use by process 7; stop it\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StateInUse("Say takeover=True to depose it."), "Say --takeover to depose it."),
        (StateUnwritable("single_writer=True accepts this one."), "--single-writer accepts this one."),
        (
            OutputChanged('Or say on_restart="overwrite" to start.'),
            'on_restart="overwrite" where the program writes it',
        ),
        (
            ImportError('S3 needs packages: pip install "asyncpersist[s3]"'),
            'S3 needs packages: pip install "asyncpersist[',
        ),
    ],
)
def test_an_error_speaks_of_what_the_command_line_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr(app, "_app", refuse)
    with pytest.raises(SystemExit):
        main()
    assert said in capsys.readouterr().err


def test_any_other_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app, "_app", fail)
    with pytest.raises(ZeroDivisionError):
        main()


def test_the_demo_works_in_no_directory_that_holds_something(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    done = command("demo", "--keep", tmp_path)
    assert done.code == 2
    assert "no empty directory" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
