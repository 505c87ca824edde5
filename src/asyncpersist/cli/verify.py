"""`asyncpersist verify`: everything that is kept, against its checksums."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, replace

import msgspec
import typer

from asyncpersist.checkpoint.layout import MANIFESTS, manifest_key
from asyncpersist.checkpoint.manifest import Manifest, ObjectRef
from asyncpersist.cli.history import History, read_history
from asyncpersist.cli.printing import AsJson, State, describe, say, say_json, table
from asyncpersist.cli.state_location import open_state
from asyncpersist.errors import StateError

__all__ = ["Damage", "Verdict", "examine", "verify"]


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is missing or altered. `snapshots`: the kept ones that need it, the newest first."""

    key: str
    detail: str
    snapshots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was looked at, and what is damaged. `whole`: the newest kept snapshot that is whole, if there is one."""

    state: str
    snapshots: int
    objects: int
    bytes: int
    damaged: tuple[Damage, ...]
    whole: int | None


def verify(state: State, as_json: AsJson = False) -> None:
    """Compare every object of every kept snapshot with its checksum; exit code 1 if something is damaged."""
    asyncio.run(_verify(state, as_json))


async def _verify(state: str, as_json: bool) -> None:
    async with open_state(state) as store:
        history = await read_history(store)
        verdict = await examine(history)
        if verdict.damaged:
            # What a running owner deleted meanwhile, because it is kept no longer, is not damaged.
            verdict = await _confirmed(verdict, history)
    if as_json:
        say_json(asdict(verdict))
    else:
        _tell(verdict, history)
    if verdict.damaged:
        raise typer.Exit(1)


async def examine(history: History) -> Verdict:
    """Reads everything that is kept; changes nothing."""
    kept = history.kept
    refs: dict[tuple[str, int | None], ObjectRef] = {
        (ref.key, ref.start): ref for manifest in kept for ref in manifest.objects()
    }
    damaged = [
        Damage(manifest_key(entry.sequence), entry.damage, (entry.sequence,))
        for entry in history.entries
        if entry.kept and entry.manifest is None
    ]
    if history.fault is not None and not any(damage.key in str(history.fault) for damage in damaged):
        damaged.append(Damage(MANIFESTS, str(history.fault), ()))
    if kept:
        # Most objects are in most snapshots: each, or each piece of it, is read once.
        everything = msgspec.structs.replace(kept[0], streams={"": list(refs.values())})
        problems = {problem.key: problem for problem in await history.root().verify(everything)}
        damaged += [Damage(key, problem.detail, _naming(kept, key)) for key, problem in problems.items()]
    return Verdict(
        state=history.store.describe(),
        snapshots=len(kept),
        objects=len({key for key, _ in refs}),
        bytes=sum(ref.length for ref in refs.values()),
        damaged=tuple(damaged),
        whole=_whole(kept, damaged),
    )


async def _confirmed(verdict: Verdict, before: History) -> Verdict:
    try:
        now = await read_history(before.store)
    except StateError:
        return verdict
    kept = {entry.sequence for entry in now.entries if entry.kept} if now.fault is None else None
    if kept is None:
        return verdict
    damaged = []
    for damage in verdict.damaged:
        still = tuple(sequence for sequence in damage.snapshots if sequence in kept)
        if still or not damage.snapshots:
            damaged.append(replace(damage, snapshots=still))
    return replace(verdict, damaged=tuple(damaged), whole=_whole(now.kept, damaged))


def _naming(kept: tuple[Manifest, ...], key: str) -> tuple[int, ...]:
    return tuple(manifest.sequence for manifest in kept if key in manifest.names())


def _whole(kept: tuple[Manifest, ...], damaged: list[Damage]) -> int | None:
    broken = {sequence for damage in damaged for sequence in damage.snapshots}
    return max((m.sequence for m in kept if m.sequence not in broken), default=None)


def _tell(verdict: Verdict, history: History) -> None:
    looked = f"{verdict.snapshots} snapshots, {verdict.objects} objects, {verdict.bytes} bytes"
    if not verdict.damaged:
        say(f"{looked}: all as written")
        return
    lines = table("damaged", "needed by", "what is wrong")
    for damage in verdict.damaged:
        lines.add_row(damage.key, ", ".join(map(str, damage.snapshots)) or "every run", damage.detail)
    say(f"{looked}: {len(verdict.damaged)} damaged", lines)
    if verdict.whole is None:
        say("No kept snapshot is whole. Put the state back from a backup, or name another directory to start anew.")
    else:
        manifest = history.find(verdict.whole)
        say(
            f"Put these back from a backup; or `asyncpersist restore {verdict.state} --to {verdict.whole}` goes back "
            f"to the newest that is whole: {describe(manifest)}."
        )
