"""`asyncpersist cache`, and what the other commands make of caches."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncpersist.checkpoint.caches import used_stream
from asyncpersist.clock import SystemClock
from asyncpersist.objectstore.filesystem import FilesystemStore
from tests.cli.conftest import Command
from tests.runtime.cached import STREAM, Cache, CachingRun


async def run(place: Path, *, kill: bool = False) -> None:
    """Two snapshots: 4 results in one cache and 1 in another; killed, one more that no manifest names."""
    store = FilesystemStore(place)
    running = await CachingRun.start(store, SystemClock(), cache=Cache(STREAM, used_stream(STREAM)))
    for key in range(4):
        running.cache.table.put(key, key)
        running.cache.tables[used_stream(STREAM)].put(key, key)
    running.cache.hits, running.cache.calls = 7, 4
    await running.write()
    running.cache.table.drop(0)
    await running.write()
    if kill:
        await running.answer(k9=9)
        running.kill()
    else:
        await running.snapshots.release()
    await store.aclose()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    asyncio.run(run(tmp_path / "state"))
    return tmp_path / "state"


def files(place: Path) -> set[tuple[Path, bytes]]:
    return {(path, path.read_bytes()) for path in place.rglob("*") if path.is_file()}


def test_it_lists_functions(command: Command, place: Path) -> None:
    before = files(place)
    (found,) = command("cache", place, "--json").json["functions"]
    assert (found["stream"], found["function"], found["cache"], found["entries"]) == (STREAM, "f", "ca/che", 3)
    assert (found["hits"], found["calls"], found["used_utc"]) == (7, 4, "1970-01-01 00:00:04 UTC")
    assert found["bytes"] > 100
    said = command("cache", place)
    assert said.code == 0
    expected = ["f", "ca/che", "3", str(found["bytes"]), "7", "4", "1970-01-01", "00:00:04", "UTC"]
    assert said.out.splitlines()[1].split() == expected
    assert files(place) == before


def test_it_finds_what_the_next_run_will(command: Command, tmp_path: Path) -> None:
    asyncio.run(run(tmp_path / "state", kill=True))
    (found,) = command("cache", tmp_path / "state", "--json").json["functions"]
    assert found["entries"] == 4
    assert command("copy", tmp_path / "state", tmp_path / "copied").code == 0
    assert command("cache", tmp_path / "copied", "--json").json["functions"][0] == found


def test_a_state_without_any(command: Command, tmp_path: Path) -> None:
    async def claim() -> None:
        store = FilesystemStore(tmp_path / "state")
        running = await CachingRun.start(store, SystemClock())
        await running.root.release()
        await store.aclose()

    asyncio.run(claim())
    assert command("cache", tmp_path / "state", "--json").json["functions"] == []
    assert "keeps no results" in command("cache", tmp_path / "state").out
    refused = command("cache", tmp_path / "state", "--drop", "f")
    assert (refused.code, "it has: none" in refused.err) == (1, True)
    assert command("cache", tmp_path / "nowhere").code == 1


@pytest.mark.parametrize("name", ["ca/che", "f"])
def test_dropping_says_first_and_does_it_with_yes(command: Command, place: Path, name: str) -> None:
    before = files(place)
    said = command("cache", place, "--drop", name)
    planned = command("cache", place, "--drop", name, "--json").json
    assert files(place) == before
    assert "to be dropped" in said.out
    assert "Nothing was changed. To do it, say --yes." in said.out
    assert (said.code, planned["done"], planned["refusals"]) == (0, False, [])
    done = command("cache", place, "--drop", name, "--yes", "--json").json
    assert {**done, "done": False} == planned
    assert [dropped["stream"] for dropped in done["dropped"]] == [STREAM]
    assert command("cache", place, "--json").json["functions"] == []
    assert command("verify", place).code == 0
    again = command("cache", place, "--drop", name, "--yes")
    assert (again.code, "has no cache and no function" in again.err) == (1, True)
    oldest = command("snapshots", place, "--json").json["snapshots"][-1]["sequence"]
    assert command("restore", place, "--to", oldest, "--yes").code == 0
    assert command("cache", place, "--json").json["functions"] == []


def test_an_unknown_name_is_told_what_there_is(command: Command, place: Path) -> None:
    before = files(place)
    refused = command("cache", place, "--drop", "g", "--yes")
    assert refused.code == 1
    assert "has no cache and no function 'g'; it has: ca/che, f. Nothing was changed." in refused.err
    assert files(place) == before


def test_a_running_owner_keeps_its_caches(command: Command, place: Path) -> None:
    async def beside() -> None:
        store = FilesystemStore(place)
        running = await CachingRun.start(store, SystemClock())
        before = files(place)
        for yes in (), ("--yes",):
            refused = await asyncio.to_thread(command, "cache", place, "--drop", "f", *yes)
            assert refused.code == 1
            assert "in use by" in refused.out + refused.err
        assert files(place) == before
        taken = await asyncio.to_thread(command, "cache", place, "--drop", "f", "--yes", "--takeover")
        assert (taken.code, "dropped" in taken.out) == (0, True)
        running.kill()
        await store.aclose()

    asyncio.run(beside())
    assert command("cache", place, "--json").json["functions"] == []


def test_other_commands_know_of_them(command: Command, place: Path) -> None:
    inspected = command("inspect", place, "--json").json
    assert STREAM in {stream["stream"] for stream in inspected["streams"]}
    assert {cache["function"] for cache in inspected["caches"]} == {"f"}
    assert "ca/che" in command("inspect", place).out
    first, second = (entry["sequence"] for entry in command("snapshots", place, "--json").json["snapshots"][2:0:-1])
    changed = command("diff", place, first, second, "--json").json
    assert changed["states"] == []
    assert [stream["stream"] for stream in changed["streams"]] == [STREAM, used_stream(STREAM)]
    assert command("diff", place, first, second).code == 0
    assert "results of functions: stay as they are" in command("restore", place, "--to", first).out
    assert command("prune", place, "--retain-snapshots", 1, "--yes").code == 0
    assert command("verify", place, "--json").json["damaged"] == []
    assert command("cache", place, "--json").json["functions"][0]["entries"] == 3
