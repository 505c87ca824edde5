"""`asyncpersist copy`: which places are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command, Job


@pytest.mark.parametrize(
    ("source", "target"),
    [("state", "link"), ("link", "state"), ("state", "link/inner"), ("link/inner", "state"), ("state", "around/state")],
)
def test_a_way_over_a_link_leads_to_the_same_place(
    command: Command, job: Job, source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(job.state.parent)
    Path("link").symlink_to("state")
    Path("around").symlink_to(".")
    before = job.files()
    done = command("copy", source, target)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "are the same place, or one lies in the other" in done.err
    assert job.files() == before


def test_a_link_to_elsewhere_is_another_place(command: Command, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(job.state.parent)
    Path("elsewhere").mkdir()
    Path("link").symlink_to("elsewhere")
    assert command("copy", "state", "link").code == 0
    assert "all as written" in command("verify", "elsewhere").out
