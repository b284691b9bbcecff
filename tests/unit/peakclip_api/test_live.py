"""How many streams one user has."""

from __future__ import annotations

import contextlib

from peakclip_api.live import MOST_OF_ONE, Reader, Readers


def test_as_many_end_as_are_too_many_even_if_none_has_gone_yet() -> None:
    """A reader that was ended goes when its task gets to it; those that come meanwhile end others."""
    readers, opened = Readers(), [Reader() for _ in range(MOST_OF_ONE + 5)]
    with contextlib.ExitStack() as stack:
        for reader in opened:
            stack.enter_context(readers.entered("ann", reader))
        other = Reader()
        stack.enter_context(readers.entered("bob", other))
        assert [reader.ended for reader in opened] == [True] * 5 + [False] * MOST_OF_ONE
        assert not other.ended
    assert readers.count == 0
