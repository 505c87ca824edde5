"""`asyncpersist run`: what it takes for a graph, what it shows, and how signals end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import asyncpersist as ap
from asyncpersist.checkpoint.root import Root
from asyncpersist.clock import SystemClock
from asyncpersist.objectstore.filesystem import FilesystemStore
from tests.amounts import PATIENCE
from tests.cli.conftest import Command, Outcome
from tests.main_job.stream import final_rows

COMMAND = [sys.executable, "-W", "error", "-m", "asyncpersist.cli", "run"]
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
STATIC = """
import asyncpersist as ap

class Line(ap.Schema):
    word: str

def count(output, mode="static"):
    lines = ap.io.jsonlines.read("input", schema=Line, mode=mode, name="lines")
    counts = lines.groupby(ap.this.word).reduce(ap.this.word, count=ap.reducers.count())
    ap.io.csv.write(counts, output)

def build():
    with ap.Graph() as made:
        count("counts.csv")
    return made

def follow():
    with ap.Graph() as made:
        count("counts.csv", "streaming")
    return made

def nothing():
    return None

def broken():
    raise ZeroDivisionError("so it goes")

with ap.Graph() as graph:
    count("counts.csv")
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "input").mkdir()
    put(tmp_path, "a", "b", "a")
    (tmp_path / "job.py").write_text(STATIC)
    (tmp_path / "plain.py").write_text(
        STATIC.split("with ap.Graph() as graph", maxsplit=1)[0] + 'count("counts.csv")\n'
    )
    return tmp_path


def put(place: Path, *words: str) -> None:
    with (place / "input" / "lines.jsonl").open("a") as file:
        file.writelines(json.dumps({"word": word}) + "\n" for word in words)


@pytest.fixture
def here(place: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """`asyncpersist run` in this process, with `place` as the current directory."""
    monkeypatch.chdir(place)
    path = list(sys.path)

    def run(*arguments: str) -> Outcome:
        done = command("run", *arguments)
        sys.path[:] = path
        for name in ("job", "other", "plain", "by_itself", "exits", "imports"):
            sys.modules.pop(name, None)
        return done

    return run


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=place, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


@contextlib.contextmanager
def running(place: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*COMMAND, *arguments], cwd=place, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Reads what the process says until a line has `text`."""
    assert process.stderr is not None
    said = []
    while text not in (line := process.stderr.readline()):
        said.append(line)
        assert line, f"it ended without {text!r}: {''.join(said)}"


@pytest.mark.parametrize("target", ["job:graph", "job:build", "job.py:build", "./job.py:graph", "plain", "plain.py"])
def test_a_graph_is_named_in_many_ways(place: Path, here: Callable[..., Outcome], target: str) -> None:
    done = here(target)
    assert (done.code, done.out) == (0, "")
    assert "no --state: nothing is kept; a restart starts from the beginning" in done.err
    assert "end of input: 3 rows read" in done.err
    assert final_rows(place / "counts.csv", keys=1) == {("a", "2"), ("b", "1")}


def test_with_a_state_it_goes_on(place: Path) -> None:
    done = run(place, "job:graph", "--state", "state")
    assert done.returncode == 0, done.stderr
    assert "begins with an empty state" in done.stderr
    assert "committed: snapshot" in done.stderr
    before = (place / "counts.csv").read_bytes()
    put(place, "b")
    done = run(place, "job:graph", "--state", "state", "--mode", "PERSISTING", "--snapshot-interval-ms", "0")
    assert done.returncode == 0, done.stderr
    assert "goes on after epoch" in done.stderr
    assert "1 rows read in this run" in done.stderr
    assert (place / "counts.csv").read_bytes().startswith(before)
    assert final_rows(place / "counts.csv", keys=1) == {("a", "2"), ("b", "2")}


def test_as_json(here: Callable[..., Outcome]) -> None:
    done = here("job:graph", "--state", "state", "--json", "--mode", "operator_persisting")
    assert (done.code, done.err) == (0, "")
    started, *between, ended = map(json.loads, done.out.splitlines())
    assert (started["event"], started["mode"]) == ("started", "operator_persisting")
    assert {line["event"] for line in between} <= {"figures"}
    assert (ended["event"], ended["reason"], ended["rows_read"]) == ("ended", "end of input", 3)
    assert ended["committed"]["rows_read"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere:graph"], "there is no module 'nowhere'"),
        (["nowhere.py"], "there is no file"),
        (["job:other"], "job has no 'other'; its graphs are job:graph"),
        (["job:"], "names no graph"),
        (["job"], "job defines no output when it is imported, so there is nothing to run; its graphs are job:graph"),
        (["job:nothing"], "job:nothing() is no Graph but of type NoneType"),
        (["job:broken"], "ZeroDivisionError: so it goes (--traceback shows where)"),
        (["by_itself"], 'put the call of asyncio.run under if __name__ == "__main__":'),
        (["exits"], "exits ended with exit code 3 when it was imported"),
        (["imports"], "No module named 'missing_thing'"),
        (["job:graph", "--state", "s3://bucket/prefix"], "there are no AWS credentials. Set AWS_ACCESS_KEY_ID"),
        (["job:graph", "--state", "s3://no bucket"], "'s3://no bucket' cannot be a state"),
        (["job:graph", "--state", "az://container"], "Set AZURE_STORAGE_ACCOUNT"),
        (["job:graph", "--state", "gs://bucket/prefix"], "states under gs:// are not built"),
        (["job:graph", "--state", "input"], "lies within what source"),
    ],
)
def test_an_error_is_one_line(place: Path, here: Callable[..., Outcome], arguments: list[str], said: str) -> None:
    (place / "by_itself.py").write_text(STATIC + "import asyncio\nasyncio.run(ap.run(graph))\n")
    (place / "exits.py").write_text("raise SystemExit(3)\n")
    (place / "imports.py").write_text("import missing_thing\n")
    done = here(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("asyncpersist: ")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (place / "counts.csv").exists()


def test_the_traceback_is_there_for_the_asking(here: Callable[..., Outcome]) -> None:
    done = here("job:broken", "--traceback")
    assert done.code == 1
    assert 'job.py", line' in done.err
    assert done.err.endswith("asyncpersist: ZeroDivisionError: so it goes\n")


def test_an_error_while_it_runs(place: Path, here: Callable[..., Outcome]) -> None:
    with (place / "input" / "lines.jsonl").open("a") as file:
        file.write("nonsense\n")
    done = here("job:graph", "--json")
    assert done.code == 1
    assert "lines.jsonl" in done.err.splitlines()[-1]
    assert json.loads(done.out.splitlines()[-1])["error"] == "MalformedInput"


@pytest.mark.parametrize(
    "option",
    [
        ["--mode", "persisting"],
        ["--takeover"],
        ["--snapshot-interval-ms", "5"],
        ["--on-graph-change", "replay"],
        ["--on-schema-change", "reread"],
        ["--keep", "name"],
    ],
)
def test_what_goes_with_a_state_needs_one(here: Callable[..., Outcome], option: list[str]) -> None:
    done = here("job:graph", *option)
    assert done.code == 2
    assert option[0] in done.err


def test_a_changed_graph(place: Path, here: Callable[..., Outcome]) -> None:
    (place / "other.py").write_text(STATIC.replace("lines.groupby", 'lines.filter(ap.this.word != "a").groupby'))
    assert here("job:graph", "--state", "state").code == 0
    done = here("other:graph", "--state", "state", "--on-graph-change", "reject")
    assert done.code == 1
    assert "added: filter (word)" in done.err
    done = here("other:graph", "--state", "state")
    assert done.code == 1
    assert "were told something else" in done.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_takes_a_last_snapshot(place: Path, number: signal.Signals, code: int) -> None:
    arguments = ("job:follow", "--state", "state", "--snapshot-interval-ms", "3600000", "--every", "0.05")
    for words in ([], ["c", "a"]):
        put(place, *words)
        with running(place, *arguments) as process:
            wait_for(process, f"{len(words) or 3} rows, ")
            process.send_signal(number)
            wait_for(process, f"{number.name}: a last snapshot")
            wait_for(process, f"{number.name}: {len(words) or 3} rows read in this run; committed: snapshot")
            assert process.wait(PATIENCE) == code
    assert final_rows(place / "counts.csv", keys=1) == {("a", "3"), ("b", "1"), ("c", "1")}


@pytest.mark.parametrize(("first", "second"), [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_ends_it_at_once(
    place: Path, here: Callable[..., Outcome], first: signal.Signals, second: signal.Signals
) -> None:
    """The disk hangs as long as there is a file `hold`, so that the last snapshot never comes."""
    hangs = """
import os, time
from asyncpersist.disk import Disk

def fsync(self, fd, then=Disk.fsync):
    while os.path.exists("hold"):
        time.sleep(0.01)
    then(self, fd)

Disk.fsync = fsync
"""
    (place / "held.py").write_text(STATIC + hangs)
    arguments = ("held:follow", "--state", "state", "--snapshot-interval-ms", "3600000", "--every", "0.05")
    with running(place, *arguments) as process:
        wait_for(process, "3 rows, ")
        (place / "hold").touch()
        process.send_signal(first)
        wait_for(process, "once more ends it at once")
        process.send_signal(second)
        assert process.wait(PATIENCE) == -second
    (place / "hold").unlink()
    assert here("job:graph", "--state", "state").code == 0
    assert final_rows(place / "counts.csv", keys=1) == {("a", "2"), ("b", "1")}


@pytest.mark.parametrize(("output", "number", "code"), [("stdout", signal.SIGTERM, 0), ("stderr", signal.SIGINT, 130)])
def test_a_pipe_that_nobody_reads_does_not_hold_the_end(
    place: Path, here: Callable[..., Outcome], output: str, number: signal.Signals, code: int
) -> None:
    ours, its = full_pipe()
    arguments = ["job:follow", "--state", "state", "--snapshot-interval-ms", "0", "--every", "0.05"]
    arguments += ["--json"] * (output == "stdout")
    outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, output: its}
    process = subprocess.Popen([*COMMAND, *arguments], cwd=place, env=BUFFERED, **outputs)
    try:
        for number_of_words, words in ((2, []), (3, ["c"])):
            put(place, *words)
            wait_until(lambda wanted=number_of_words: counted(place) == wanted, process)
        process.send_signal(number)
        assert process.wait(PATIENCE) == code
    finally:
        process.kill()
        process.wait()
        os.close(its)
        os.close(ours)
    done = here("job:graph", "--state", "state")
    assert "goes on after epoch" in done.err
    assert "end of input: 0 rows read" in done.err


def full_pipe() -> tuple[int, int]:
    """A pipe that takes no byte more: its ends to read from and to write to."""
    ours, its = os.pipe()
    os.set_blocking(its, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(its, bytes(4096))
    os.set_blocking(its, True)
    return ours, its


def counted(place: Path) -> int:
    """How many words have been counted so far."""
    output = place / "counts.csv"
    lines = output.read_text().splitlines()[1:] if output.exists() else []
    return len({line.partition(",")[0] for line in lines})


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    late = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < late
        time.sleep(0.02)


def test_an_error_in_a_pipe_that_nobody_reads(place: Path) -> None:
    ours, its = full_pipe()
    try:
        done = subprocess.run(
            [*COMMAND, "job:broken"], cwd=place, env=BUFFERED, stderr=its, check=False, timeout=PATIENCE
        )
    finally:
        os.close(its)
        os.close(ours)
    assert done.returncode == 1


def test_whoever_reads_may_leave(place: Path) -> None:
    """The run is stopped, as by a signal, and it says why where it still can."""
    command = [*COMMAND, "job:follow", "--state", "state", "--json", "--every", "0.05"]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["event"] == "started"
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(PATIENCE) in (1, 120), "120: so Python itself says that standard output is gone"
    assert "asyncpersist: BrokenPipeError" in said


def test_on_a_terminal_the_figures_stay_in_their_place(place: Path) -> None:
    ours, its = pty.openpty()
    try:
        process = subprocess.Popen([*COMMAND, "job:follow", "--state", "state"], cwd=place, stdout=its, stderr=its)
        os.close(its)
        shown = ""
        sent = False
        with contextlib.suppress(OSError):  # how a pseudo-terminal tells its end
            while piece := os.read(ours, 1 << 16):
                shown += piece.decode(errors="replace")
                if not sent and "│ 3 " in shown:
                    process.send_signal(signal.SIGINT)
                    sent = True
        assert process.wait(PATIENCE) == 130
    finally:
        os.close(ours)
    assert "job:follow, 0:00:0" in shown
    assert "not committed" in shown
    assert "SIGINT: 3 rows read in this run; committed: snapshot" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is hidden"


def test_the_help_lists_the_modes(here: Callable[..., Outcome]) -> None:
    shown = "".join(here("--help").out.replace("│", "").split())
    assert all(mode.value in shown for mode in ap.PersistenceMode)
    done = here("job:graph", "--state", "state", "--mode", "nonsense")
    assert done.code == 2
    assert "'nonsense' is none of batch, speedrun_replay" in " ".join(done.err.replace("│", "").split())


def test_what_a_run_without_a_state_wrote_is_explained(place: Path, here: Callable[..., Outcome]) -> None:
    assert here("job:graph").code == 0
    before = (place / "counts.csv").read_bytes()
    done = here("job:graph", "--state", "state")
    assert done.code == 1
    assert "counts.csv holds" in done.err
    assert "A run without --state leaves such a file" in done.err
    assert (place / "counts.csv").read_bytes() == before


def test_a_state_of_this_very_process(place: Path, here: Callable[..., Outcome]) -> None:
    async def claimed() -> Root:
        store = FilesystemStore(place / "state")
        root = await Root.open(store, clock=SystemClock())
        await root.claim(mode="PERSISTING", access="FULL")
        await store.aclose()
        return root

    root = asyncio.run(claimed())
    done = here("job:graph", "--state", "state")
    root.abandon()
    assert done.code == 1
    assert "is in use by another run of this process. Stop that run" in done.err
    assert "say --takeover" in done.err


def test_what_the_program_prints_is_left_alone(place: Path) -> None:
    (place / "prints.py").write_text(STATIC + 'print("hello")\n')
    done = run(place, "prints:graph")
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_a_state_that_is_in_use_is_refused_or_taken_over(place: Path, here: Callable[..., Outcome]) -> None:
    with running(place, "job:follow", "--state", "state", "--every", "0.05") as first:
        wait_for(first, "3 rows, ")
        done = here("job:graph", "--state", "state")
        assert done.code == 1
        assert f"in use by process {first.pid}" in done.err
        assert "say --takeover to depose it" in done.err
        done = here("job:graph", "--state", "state", "--takeover")
        assert done.code == 0, done.err
        put(place, "b")
        late = time.monotonic() + PATIENCE
        while first.poll() is None and time.monotonic() < late:
            time.sleep(0.05)
        assert first.returncode == 1
