from __future__ import annotations

from asyncpersist.runtime.epochs import EpochClock
from asyncpersist.testing.clocks import ManualClock


def test_epochs_are_even_grow_and_follow_the_clock() -> None:
    clock = ManualClock(start=1000.0)
    epochs = EpochClock(clock, last=0)
    assert epochs.pause() == 0
    assert epochs.next() == 1_000_000
    clock.advance(0.0101)
    assert epochs.pause() == 0
    assert epochs.next() == 1_000_010


def test_an_epoch_never_starts_before_its_number() -> None:
    clock = ManualClock(start=1000.0)
    epochs = EpochClock(clock, last=0)
    epochs.next()
    assert epochs.pause() == 0.002
    clock.advance(0.002)
    assert epochs.pause() == 0
    assert epochs.next() == 1_000_002


def test_a_wall_clock_set_back_gives_no_epoch_twice() -> None:
    epochs = EpochClock(ManualClock(start=1000.0), last=2_000_000)
    assert epochs.pause() == 0
    assert epochs.next() == 2_000_002
