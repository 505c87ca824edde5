"""`asyncpersist restore`: back to an older snapshot."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from asyncpersist.checkpoint.manifest import Manifest
from asyncpersist.checkpoint.ownership import OwnerState
from asyncpersist.checkpoint.register import describe_owner
from asyncpersist.checkpoint.restore import restore as commit_again
from asyncpersist.cli.history import History, read_history
from asyncpersist.cli.printing import AsJson, State, describe, say, say_json
from asyncpersist.cli.state_location import open_state
from asyncpersist.clock import SystemClock

__all__ = ["Intent", "Output", "restore"]


@dataclass(frozen=True, slots=True)
class Output:
    """What becomes of one output. `now` is None where it is not known or there was none."""

    identity: str
    description: str
    now: dict[str, Any] | None
    then: dict[str, Any]

    def tell(self) -> str:
        """For people."""
        length = self.then.get("length")
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
    sequence: Annotated[
        int, typer.Argument(metavar="SEQUENCE", min=1, help="The number of the snapshot.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only said what would be done.")] = False,
    takeover: Annotated[bool, typer.Option("--takeover", help="Also if the owner runs or may run: depose it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Go back to an older snapshot: the next run continues from there, its file outputs cut to what they were then."""
    asyncio.run(_restore(state, sequence, yes=yes, takeover=takeover, as_json=as_json))


async def _restore(state: str, sequence: int, *, yes: bool, takeover: bool, as_json: bool) -> None:
    async with open_state(state) as store:
        history = await read_history(store)
        chosen = history.find(sequence)
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
    else:
        for refusal in intent.refusals:
            say(f"It would be refused: {refusal}")
        say("Nothing was changed. To do it, say --yes.")
    if intent.refusals and not yes:
        raise typer.Exit(1)


async def _intend(history: History, chosen: Manifest, *, takeover: bool) -> Intent:
    head = history.head
    refusals = [f"{p.key} is damaged: {p.detail}" for p in await history.root().verify(chosen)]
    if history.newest is not None and history.owner_state is not None and not takeover:
        owner = describe_owner(history.newest.owner)
        if history.owner_state is OwnerState.RUNNING:
            refusals.append(f"the state is in use by {owner}. Stop that process, or say --takeover.")
        elif not history.owner_state.proven_gone:
            refusals.append(f"the state may be in use by {owner}. Make sure that it is not, and say --takeover.")
    rows_again = None if head is None else int(head.progress.get("rows", 0)) - int(chosen.progress.get("rows", 0))
    return Intent(
        state=history.store.describe(),
        sequence=chosen.sequence,
        epoch=chosen.epoch,
        given_up=tuple(e.sequence for e in history.entries if e.kept and e.sequence > chosen.sequence),
        rows_again=None if rows_again is None else max(rows_again, 0),
        outputs=tuple(
            Output(
                identity,
                str(chosen.graph.get(identity, {}).get("description", identity)),
                None if head is None else head.sinks.get(identity),
                position,
            )
            for identity, position in chosen.sinks.items()
        ),
        refusals=tuple(refusals),
    )


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
