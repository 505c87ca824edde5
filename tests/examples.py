"""How many examples Hypothesis draws: as many as pay in every run of `scripts/test`, and more in `scripts/torture`."""

from __future__ import annotations

from hypothesis import settings

from tests.amounts import TIMES

__all__ = ["examples"]


def examples(usual: int) -> settings:
    """For a test that needs so many; others draw 50. How long one takes says only how busy the machine is."""
    return settings(max_examples=usual * TIMES, deadline=None)
