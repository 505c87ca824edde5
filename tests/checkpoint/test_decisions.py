"""The pure decisions, over literal facts."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpersist.checkpoint import protocol
from asyncpersist.checkpoint.layout import MARKER, manifest_key, object_key, parse
from asyncpersist.checkpoint.manifest import FORMAT, Damaged, LogFacts, decode, encode, seal
from asyncpersist.checkpoint.ownership import UNREADABLE, OwnerState, Process, judge
from asyncpersist.checkpoint.packing import SMALL, packs
from asyncpersist.checkpoint.retention import Facts, Retention, retain
from asyncpersist.checkpoint.tiers import LOG, STATE, plan_merges
from asyncpersist.errors import NewerFormat
from tests.checkpoint.runs import manifest, owner, ref

HERE = Process(host="a", machine="m", boot="b", namespace="n", pid=1, started=1.0)


def o(generation: int, name: str) -> str:
    return object_key(generation, name, "arrow")


# Ownership


@pytest.mark.parametrize(
    ("recorded", "live", "started", "expected"),
    [
        (None, set(), None, OwnerState.NONE),
        (owner(released=True), set(), 3.0, OwnerState.RELEASED),
        (owner(), set(), 3.0, OwnerState.RUNNING),
        (owner(), set(), UNREADABLE, OwnerState.RUNNING),
        (owner(), set(), None, OwnerState.ENDED),
        (owner(), set(), 4.0, OwnerState.ENDED),
        (owner(pid=1, started=1.0), {"r"}, 1.0, OwnerState.RUNNING),
        (owner(pid=1, started=1.0), {"other"}, 1.0, OwnerState.ENDED),
        (owner(boot="old"), set(), 3.0, OwnerState.ENDED),
        (owner(boot="old", machine=""), set(), None, OwnerState.ELSEWHERE),
        (owner(boot="other", machine="x"), set(), None, OwnerState.ELSEWHERE),
        (owner(boot="other", host="x"), set(), None, OwnerState.ELSEWHERE),
        (owner(namespace="container"), set(), None, OwnerState.ELSEWHERE),
        (owner(host="renamed"), set(), 3.0, OwnerState.RUNNING),
    ],
)
def test_ownership(recorded, live, started, expected) -> None:
    assert judge(recorded, HERE, live, started) is expected


def test_only_proof_makes_an_owner_gone() -> None:
    assert [state for state in OwnerState if state.proven_gone] == [
        OwnerState.NONE,
        OwnerState.RELEASED,
        OwnerState.ENDED,
    ]


def test_a_takeover_in_doubt_stays_in_doubt_until_a_snapshot() -> None:
    def claim(head, exclusive):
        return protocol.claim(
            [head], token="t", owner=owner(), exclusive=exclusive, now=0.0, mode="M", access="A", graph={}, sinks={}
        )

    doubtful = claim(manifest(3), False)
    assert not doubtful.exclusive
    assert not claim(doubtful, True).exclusive
    assert not claim(protocol.release(doubtful, Retention((), 1, ()), token="t", now=0.0), True).exclusive
    after = protocol.snapshot(
        doubtful,
        Retention((), 1, ()),
        token="t",
        now=0.0,
        epoch=8,
        mode="M",
        access="A",
        graph={},
        streams={},
        sinks={},
        progress={},
        logs={},
    )
    assert after.exclusive
    assert claim(after, True).exclusive


def test_a_snapshot_never_names_what_was_condemned() -> None:
    head = msgspec.structs.replace(manifest(3), condemned=[o(1, "x")])
    with pytest.raises(ValueError, match="condemned"):
        protocol.snapshot(
            head,
            Retention((), 1, ()),
            token="t",
            now=0.0,
            epoch=9,
            mode="M",
            access="A",
            graph={},
            streams={"s": [ref(o(1, "x"))]},
            sinks={},
            progress={},
            logs={},
        )


# Retention


def facts(ancestors, **changes) -> Facts:
    fields = {
        "ancestors": ancestors,
        "named": set(),
        "sequence": ancestors[0].sequence + 1 if ancestors else 1,
        "generation": 2,
        "now": 1000.0,
        "retain_snapshots": 2,
        "retain_for": None,
    }
    return Facts(**{**fields, **changes})


A, B, C, D = (o(1, name) for name in "abcd")


@pytest.mark.parametrize(
    ("given", "kept", "condemned"),
    [
        pytest.param(facts([]), [], [], id="nothing"),
        pytest.param(
            facts([manifest(3, B, C), manifest(2, A, B), manifest(1, A)], named={C, D}),
            [3],
            [manifest_key(1), manifest_key(2), A],
            id="an object goes with the last manifest that names it",
        ),
        pytest.param(
            facts([manifest(3, A), manifest(2, B)], named={B}),
            [3],
            [manifest_key(2)],
            id="an object that came back into the new manifest stays",
        ),
        pytest.param(
            facts([manifest(2, A), manifest(1, B)], retain_snapshots=1),
            [2],
            [manifest_key(1), B],
            id="the parent is always kept",
        ),
        pytest.param(
            facts([manifest(4, A, kind="claim"), manifest(3, A, kind="release"), manifest(2, A), manifest(1, B)]),
            [2],
            [manifest_key(1), manifest_key(3), manifest_key(4), B],
            id="claims and releases do not count and do not stay",
        ),
        pytest.param(
            facts([manifest(3, at=990), manifest(2, at=980), manifest(1, A, at=10)], retain_for=25.0),
            [3, 2],
            [manifest_key(1), A],
            id="the young are kept beyond the count",
        ),
        pytest.param(
            facts([manifest(3)], carried={A}, abandoned={o(2, "own")}),
            [3],
            [A, o(2, "own")],
            id="what was condemned stays condemned, what was abandoned becomes so",
        ),
        pytest.param(
            facts(
                [manifest(3, A)],
                stored={A, B, o(2, "written now"), o(3, "of a successor"), "objects/README", "unknown"},
            ),
            [3],
            [B],
            id="orphans of older generations only",
        ),
        pytest.param(
            facts(
                [manifest(3)],
                stored={
                    MARKER,
                    manifest_key(1),
                    manifest_key(3),
                    manifest_key(5),
                    manifest_key(2) + ".x.partial",
                    manifest_key(4) + ".x.partial",
                    MARKER + ".x.partial",
                    o(1, "cut") + ".x.partial",
                    o(2, "now") + ".x.partial",
                },
            ),
            [3],
            [MARKER + ".x.partial", manifest_key(1), manifest_key(2) + ".x.partial", o(1, "cut") + ".x.partial"],
            id="manifests off the chain below the new one, and remains",
        ),
    ],
)
def test_retention(given: Facts, kept: list[int], condemned: list[str]) -> None:
    decision = retain(given)
    assert [m.sequence for m in decision.kept] == kept
    assert decision.horizon == (kept[-1] if kept else given.sequence)
    assert list(decision.condemned) == sorted(condemned)


def test_what_has_a_name_stays_and_what_lies_between_does_not() -> None:
    chain = [manifest(9, D), manifest(8, C), manifest(7, B), manifest(6, A)]
    old, older = manifest(3, A), manifest(2, o(1, "e"))
    decision = retain(facts(chain, keep={"x": 2, "y": 6, "new": 10}, pinned=[old, older]))
    assert [m.sequence for m in decision.kept] == [9]
    assert decision.horizon == 9
    assert [m.sequence for m in decision.pinned] == [6, 2]
    assert list(decision.condemned) == sorted([manifest_key(8), manifest_key(7), manifest_key(3), B, C])


names = st.sets(st.sampled_from([o(g, n) for g in (1, 2, 3) for n in "abc"]))


@given(st.lists(st.tuples(names, st.sampled_from(["snapshot", "claim", "release"]))), names, names, names, names)
def test_retention_never_condemns_what_is_kept(chain, named, carried, abandoned, stored) -> None:
    ancestors = [manifest(n + 1, *keys, kind=kind) for n, (keys, kind) in enumerate(chain)][::-1]
    decision = retain(facts(ancestors, named=named, carried=carried, abandoned=abandoned, stored=stored))
    kept = named.union(*(m.names() for m in decision.kept))
    assert not kept & set(decision.condemned)
    assert not {m.key for m in decision.kept} & set(decision.condemned)
    gone = set().union(*(m.names() for m in ancestors[len(decision.kept) :])) - kept
    assert gone <= set(decision.condemned)


chains = st.lists(st.tuples(names, st.sampled_from(["snapshot", "claim", "release"])), min_size=1)


@given(chains, st.sets(st.integers(0, 9)), st.integers(0, 9), names, names, st.integers(1, 4), st.integers(0, 9))
def test_whatever_has_a_name_stays_whole_and_nothing_stays_for_nothing(
    made, named, pinned, carried, stored, count, age
) -> None:
    known = [manifest(n + 1, *keys - carried, kind=kind, at=n) for n, (keys, kind) in enumerate(made)][::-1]
    kept_by = {str(sequence): sequence for sequence in named}
    # Of the older part only what has a name is known.
    off = [m for m in known[len(known) - pinned :] if m.sequence in named] if pinned < len(known) else []
    chain = known[: len(known) - pinned] if pinned < len(known) else known
    decision = retain(
        facts(
            chain,
            named=chain[0].names(),
            carried=carried,
            stored=stored,
            keep=kept_by,
            pinned=off,
            retain_snapshots=count,
            retain_for=float(age),
            now=len(known),
        )
    )
    condemned = set(decision.condemned)
    stay = {m.sequence: m for m in (*decision.kept, *decision.pinned)}
    assert len(stay) == len(decision.kept) + len(decision.pinned)
    for one in (*chain, *off):
        if one.sequence in named:
            assert one.sequence in stay
        if one.sequence in stay:
            assert not condemned & {one.key, *one.names()}
        else:
            assert one.key in condemned
            others = chain[0].names().union(*(m.names() for m in stay.values()))
            assert one.names() - others <= condemned
    unnamed = retain(
        facts(chain, named=chain[0].names(), retain_snapshots=count, retain_for=float(age), now=len(known))
    )
    assert decision.kept == unnamed.kept, "a name keeps nothing but its snapshot"


def test_what_a_key_says() -> None:
    for sequence in (1, 10**12):
        name = parse(manifest_key(sequence))
        assert name is not None
        assert (name.kind, name.number, name.partial) == ("manifest", sequence, False)
    name = parse(o(12, "t") + ".abc.partial")
    assert name is not None
    assert (name.kind, name.number, name.partial) == ("object", 12, True)
    assert parse("objects/other") is None
    assert parse("manifests/1.json") is None


# Manifests


def test_a_manifest_comes_back_as_it_was_written() -> None:
    written = msgspec.structs.replace(manifest(3, A, B), sinks={"out": {"length": 5}}, graph={"f": ["x", 1, None]})
    assert decode(encode(written), "here") == written


@given(st.data())
def test_no_flip_and_no_cut_goes_unnoticed(data) -> None:
    original = encode(manifest(3, A, B))
    index = data.draw(st.integers(0, len(original) - 1))
    flipped = bytearray(original)
    flipped[index] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(flipped), original[:index], original + b"x", b""):
        with pytest.raises(Damaged):
            decode(damaged, "here")


def test_a_newer_format_is_said_to_be_newer() -> None:
    with pytest.raises(NewerFormat, match=r"here.*format 3.*up to format 2"):
        decode(encode(msgspec.structs.replace(manifest(3), format=3)), "here")


def test_format_1_knew_less_of_logs() -> None:
    log = {"key": A, "length": 1, "checksum": "", "rows": 1, "first_epoch": 2, "last_epoch": 2}
    older = {
        **msgspec.to_builtins(manifest(3)),
        "format": 1,
        "graph": {identity: {"fingerprint": "f"} for identity in ("source.a", "source-b", "group_by-c", "sink-d")},
        "streams": {
            "offsets/source.a": [log],
            "offsets/source-b": [log],
            "log/source.a": [log],
            "state/group_by-c/x": [log],
        },
        "of a later fashion": 1,
    }
    del older["logs"], older["keep"]
    for mode, logs in (("PERSISTING", {"source.a", "source-b"}), ("OPERATOR_PERSISTING", {"source.a"})):
        read = decode(seal(msgspec.json.encode({**older, "mode": mode})), "here")
        assert (read.format, read.sequence, read.keep) == (FORMAT, 3, {})
        assert read.logs == dict.fromkeys(logs, LogFacts(since=0, ids=False))
        assert {identity for identity, node in read.graph.items() if node.get("kept")} == {*older["graph"]} - {"sink-d"}
        assert {name for name, refs in read.streams.items() if refs[0].compacted} == {"log/source.a"}
        assert decode(encode(read), "here") == read


@pytest.mark.parametrize("version", [0, -1])
def test_a_format_there_never_was_is_damage(version) -> None:
    with pytest.raises(Damaged):
        decode(encode(msgspec.structs.replace(manifest(3), format=version)), "here")


@pytest.mark.parametrize("harm", [{"streams": []}, {"graph": {"source.a": 1}}, {"sequence": "3"}, {"token": None}])
def test_a_manifest_of_an_older_format_that_makes_no_sense_is_damage(harm) -> None:
    content = {**msgspec.to_builtins(manifest(3)), "format": 1, **harm}
    with pytest.raises(Damaged):
        decode(seal(msgspec.json.encode(content)), "here")


# Merging


def simulate(share: float, snapshots: int, *, full: int = 20_000_000, jitter: float = 0.0, distinct: bool = False):
    """A state of `full` bytes of which `share` changes between snapshots.

    Returns the bytes written a snapshot in full snapshots, the most objects, the most bytes in full snapshots.
    `distinct`: no row changes twice before all have, the worst case for merging.
    """
    rng = random.Random(0)
    shares, written, most, largest = [1.0], 0.0, 0, 0.0
    for _ in range(snapshots):
        shares.append(share * (1 + jitter * rng.uniform(-1, 1)))
        written += shares[-1]
        while (run := plan_merges([int(full * s) for s in shares])) is not None:
            assert run.stop - run.start >= 2
            merged = sum(shares[run]) if distinct else 1 - math.prod(1 - s for s in shares[run])
            shares[run] = [1.0 if run.start == 0 else min(merged, 1.0)]
            written += shares[run.start]
        most, largest = max(most, len(shares)), max(largest, sum(shares))
    return written / snapshots, most, largest


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("jitter", [0.0, 0.9])
@pytest.mark.parametrize("snapshots", [100, 1000])
def test_a_hundredth_changing_costs_less_than_three_hundredths(snapshots, jitter, distinct) -> None:
    written, most, largest = simulate(0.01, snapshots, jitter=jitter, distinct=distinct)
    assert written < 0.03
    assert most < 32
    assert largest < 2.27


@pytest.mark.parametrize("share", [0.0005, 0.001, 0.05, 0.3, 1.0])
def test_other_shares_are_bounded_as_well(share) -> None:
    written, most, largest = simulate(share, 1000, jitter=0.5, distinct=True)
    assert written < 5 * share
    assert most < 32
    assert largest < 2.27 + 2 * share


def grown(sizes_of, snapshots: int) -> tuple[list[int], int, int]:
    """The sizes of a log's objects, the bytes that were written, and the most bytes over those beyond 64 MiB each."""
    sizes: list[int] = []
    written = worst = 0
    for n in range(snapshots):
        sizes.append(sizes_of(n))
        written += sizes[-1]
        while (run := plan_merges(sizes, policy=LOG)) is not None:
            assert run.stop - run.start >= 2
            assert sum(sizes[run]) <= 64 << 20
            sizes[run] = [sum(sizes[run])]
            written += sizes[run.start]
        worst = max(worst, len(sizes) - sum(sizes) // (32 << 20))
    return sizes, written, worst


@pytest.mark.parametrize("size", [100, 1_000, 100_000, 3_000_000, 20_000_000, 50_000_000])
def test_a_log_is_rewritten_a_few_times_a_bounded_number_of_bytes_at_once(size) -> None:
    sizes, written, worst = grown(lambda n: size, 3000)
    assert sum(sizes) == 3000 * size
    assert written < 5 * sum(sizes) + 3000 * 1000  # small ones are of like size
    assert worst <= 32


def test_objects_of_a_log_stay_few_whatever_their_sizes() -> None:
    rng = random.Random(0)
    for _ in range(20):
        scale = rng.choice((3, 6, 9))
        sizes, written, worst = grown(lambda n, scale=scale: int(10 ** rng.uniform(2, scale - 1)), 1000)
        assert written < 6 * sum(sizes) + 1000 * 1000
        assert worst <= 40
    sizes, _, _ = grown(lambda n: 40_000_000 if n % 20 == 19 else 1_000, 1000)
    assert len(sizes) <= 2 * 50


def test_what_lies_before_a_sealed_object_of_a_log_is_merged_once() -> None:
    mib = 1 << 20
    assert plan_merges([mib, mib, 33 * mib], policy=LOG) == slice(0, 2)
    assert plan_merges([2 * mib, 33 * mib], policy=LOG) is None
    assert plan_merges([30 * mib, 31 * mib, 4 * mib, 33 * mib], policy=LOG) == slice(0, 2)


def test_a_state_that_shrank_is_merged_in_time() -> None:
    sizes = [1_000_000, 300_000]
    assert plan_merges(sizes) is None
    assert plan_merges(sizes, merged=10_000) == slice(0, 2)
    assert plan_merges([1_000_000, 100_000], merged=10_000) is None


def test_few_objects_are_left_alone() -> None:
    assert plan_merges([]) is None
    assert plan_merges([5]) is None
    assert plan_merges([10**6, 10]) is None
    assert plan_merges([0, 0], policy=STATE) is None


# Packing


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([0], [[0]]),
        ([10, SMALL + 1, SMALL, 0], [[1], [0, 2, 3]]),
        ([SMALL] * 20, [list(range(16)), [16, 17, 18, 19]]),
        ([10**9, 10**9], [[0], [1]]),
    ],
)
def test_small_pieces_share_an_object(sizes: list[int], expected: list[list[int]]) -> None:
    assert list(packs(sizes)) == expected
