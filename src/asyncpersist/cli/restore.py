"""`asyncpersist restore`: back to an older snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from asyncpersist.checkpoint.caches import is_cache
from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.restore import restore as commit_again
from asyncpersist.checkpoint.restore import restored
from asyncpersist.cli.history import History, read_history
from asyncpersist.cli.points import Takeover, Yes, refusal_of_owner
from asyncpersist.cli.printing import AsJson, State, describe, say, say_json
from asyncpersist.cli.state_location import open_state
from asyncpersist.clock import SystemClock
from asyncpersist.errors import OutputError
from asyncpersist.io.output_file import Mark, examine

__all__ = ["Intent", "Output", "restore"]


@dataclass(frozen=True, slots=True)
class Output:
    """What becomes of one output. `now` is None where it is not known or there was none.

    `trouble`: what is at its place is not what was written there then, and more.
    """

    identity: str
    description: str
    now: dict[str, Any] | None
    then: dict[str, Any]
    trouble: str | None = None

    def tell(self) -> str:
        """For people."""
        length = self.then.get("length")
        if self.trouble is not None:
            return (
                f"{self.description}: the next run will refuse it: {self.trouble} Before you run, put a copy of the "
                "file from that time there."
            )
        if not isinstance(length, int):
            return f"{self.description}: goes on at {self.then}"
        before = None if self.now is None else self.now.get("length")
        if before == length:
            return f"{self.description}: stays at {length} bytes"
        cut = f"from {before} to {length} bytes" if before is not None else f"to {length} bytes"
        return f"{self.description}: the next run cuts the file {cut} and writes on from there"


@dataclass(frozen=True, slots=True)
class Intent:
    """What a restore will do. `rows_again`: input rows that are read once more; None if that is not known."""

    state: str
    sequence: int
    epoch: int
    given_up: tuple[int, ...]
    rows_again: int | None
    outputs: tuple[Output, ...]
    refusals: tuple[str, ...]


def restore(
    state: State,
    point: Annotated[
        str, typer.Option("--to", metavar="POINT", help="The snapshot's number or name.", show_default=False)
    ],
    yes: Yes = False,
    takeover: Takeover = False,
    as_json: AsJson = False,
) -> None:
    """Go back to an older snapshot: the next run continues from there, its file outputs cut to what they were then.

    Until a run has begun this can be undone: by restoring the number that was the newest before.
    """
    asyncio.run(_restore(state, point, yes=yes, takeover=takeover, as_json=as_json))


async def _restore(state: str, point: str, *, yes: bool, takeover: bool, as_json: bool) -> None:
    async with open_state(state) as store:
        history = await read_history(store)
        chosen = history.find(point)
        sequence = chosen.sequence
        if history.head is not None and chosen.sequence == history.head.sequence:
            if as_json:
                say_json({"state": store.describe(), "sequence": sequence, "done": False, "committed": None})
            else:
                say(f"That is what the next run goes on from as it is: {describe(chosen)}. Nothing was changed.")
            return
        intent = await _intend(history, chosen, takeover=takeover)
        if not as_json:
            _tell(intent, history, chosen)
        committed = None
        if yes:
            committed = (await commit_again(store, sequence, clock=SystemClock(), takeover=takeover)).sequence
    if as_json:
        say_json({**asdict(intent), "done": committed is not None, "committed": committed})
    elif committed is not None:
        say(f"Done, as snapshot {committed}. Start the run again.")
        if history.head is not None:
            back = f"asyncpersist restore {intent.state} --to {history.head.sequence} --yes"
            say(f"To undo it before a run has begun: `{back}`.")
    else:
        for refusal in intent.refusals:
            say(f"It would be refused: {refusal}")
        say("Nothing was changed. To do it, say --yes.")
    if intent.refusals and not yes:
        raise typer.Exit(1)


async def _intend(history: History, chosen: Manifest, *, takeover: bool) -> Intent:
    head = history.head
    assert history.newest is not None, "what was chosen can be read"
    _, found = await restored(history.store, chosen, history.newest)
    refusals = [f"{p.key} is damaged: {p.detail}" for p in found]
    condemned = {chosen.key, *chosen.names()} & set(history.newest.condemned)
    refusals += [f"it has expired: {key} is due to be deleted" for key in sorted(condemned)[:1]]
    if (refusal := refusal_of_owner(history, takeover=takeover)) is not None:
        refusals.append(refusal)
    rows_again = None if head is None else int(head.progress.get("rows", 0)) - int(chosen.progress.get("rows", 0))
    return Intent(
        state=history.store.describe(),
        sequence=chosen.sequence,
        epoch=chosen.epoch,
        given_up=tuple(e.sequence for e in history.entries if e.kept and not e.names and e.sequence > chosen.sequence),
        rows_again=None if rows_again is None else max(rows_again, 0),
        outputs=tuple(
            [
                Output(
                    identity,
                    str(chosen.graph.get(identity, {}).get("description", identity)),
                    None if head is None else head.sinks.get(identity),
                    position,
                    await asyncio.to_thread(_trouble, chosen.graph.get(identity, {}).get("output"), position),
                )
                for identity, position in chosen.sinks.items()
            ]
        ),
        refusals=tuple(refusals),
    )


def _trouble(path: str | None, position: Mapping[str, Any]) -> str | None:
    """What the next run would say of a file that does not begin with what was written to it then."""
    if path is None or not {"length", "tail"} <= position.keys():
        return None
    try:
        examine(Path(path), Mark(position["length"], position["tail"]), anew=False)
    except OutputError as exc:
        return str(exc).partition(" Put back what was there")[0]
    return None


def _tell(intent: Intent, history: History, chosen: Manifest) -> None:
    where = "a damaged state" if history.head is None else describe(history.head)
    say(f"{intent.state}: back from {where}", f"  to {describe(chosen)}")
    if intent.given_up:
        say(f"  snapshots given up: {', '.join(map(str, intent.given_up))}; the next run deletes them")
    if intent.rows_again is None:
        say("  input: the next run reads again what was read after that snapshot")
    else:
        say(f"  input: the next run reads {intent.rows_again} rows again")
    for output in intent.outputs:
        say(f"  {output.tell()}")
    if history.newest is not None and any(map(is_cache, history.newest.streams)):
        say("  results of functions: stay as they are; they belong to no snapshot")
