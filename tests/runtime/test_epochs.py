from __future__ import annotations

from asyncpersist.runtime.epochs import EpochClock
from asyncpersist.testing.clocks import ManualClock


def test_epochs_are_even_grow_and_follow_the_clock() -> None:
    clock = ManualClock(start=1000.0)
    epochs = EpochClock(clock, last=0)
    assert epochs.next_nowait() == (1_000_000, 0.0)
    clock.advance(0.0101)
    epoch, wait = epochs.next_nowait()
    assert epoch % 2 == 0
    assert 1_000_010 <= epoch + wait * 1000 <= 1_000_014


def test_an_epoch_never_starts_before_its_number() -> None:
    epochs = EpochClock(ManualClock(start=1000.0), last=0)
    epochs.next_nowait()
    assert epochs.next_nowait() == (1_000_002, 0.002)


def test_a_wall_clock_set_back_gives_no_epoch_twice() -> None:
    epochs = EpochClock(ManualClock(start=1000.0), last=2_000_000)
    assert epochs.next_nowait()[0] == 2_000_002
