"""Places for orders that are being stored, shared so that nobody can take them all. Pure.

Who has as many places as are still free gets no further one. So of 900 places a single key takes 450 and two take 300
each, and one that comes later finds some free, however hard the others press: whoever asks for little is served.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Room:
    """An order has a place from the moment it is taken until it is on disk or refused."""

    def __init__(self, most: int, places: Callable[[], int] | None = None, *, least: int = 0) -> None:
        """`most`: places that there ever are. `places`: as many as are of use now; None: all of them. There are always
        `least` of use: up to there nobody is asked."""
        self._most = most
        self._places = places
        self._sure = most if places is None else min(most, least)
        self._of: dict[Hashable, int] = {}
        self.taken = 0

    def enter(self, owner: Hashable) -> bool:
        """Takes a place if `owner` may have a further one.

        >>> room = Room(3)
        >>> [room.enter("a"), room.enter("a"), room.enter("a"), room.enter("b"), room.enter("b")]
        [True, True, False, True, False]
        """
        mine = self._of.get(owner, 0)
        needed = mine + self.taken
        if needed >= self._sure and (self._places is None or needed >= min(self._most, self._places())):
            return False
        self._of[owner] = mine + 1
        self.taken += 1
        return True

    def leave(self, owner: Hashable) -> None:
        """Gives back one place of `owner`."""
        self.taken -= 1
        left = self._of[owner] - 1
        if left:
            self._of[owner] = left
        else:
            del self._of[owner]
