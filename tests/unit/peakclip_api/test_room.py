"""Places are shared: nobody has them all, and none is lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from peakclip_api.room import Room


@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([True, True, False])), min_size=12, max_size=60
    ),
)
def test_taken_is_what_came_and_did_not_leave_and_never_more_than_there_is(
    most: int, steps: list[tuple[str, bool]]
) -> None:
    room = Room(most)
    has: Counter[str] = Counter()
    for owner, comes in steps:
        if comes:
            free = most - has.total()
            assert room.enter(owner) == (has[owner] < free)
            has[owner] += has[owner] < free
        elif has[owner]:
            room.leave(owner)
            has[owner] -= 1
        assert room.taken == has.total() <= most


@given(st.integers(1, 8), st.integers(64, 2_000))
def test_however_hard_some_press_one_more_finds_room(pressing: int, most: int) -> None:
    room = Room(most)
    for _ in range(most):
        for number in range(pressing):
            room.enter(number)
    share = most // (pressing + 1)
    assert room.taken >= pressing * share - pressing
    assert room.enter("who comes late")


def test_places_that_are_of_no_use_now_are_not_given() -> None:
    useful = 4
    room = Room(100, lambda: useful)
    assert [room.enter("a") for _ in range(4)] == [True, True, False, False]
    useful = 2
    assert not room.enter("b"), "both are taken"
    useful = 1_000
    assert [room.enter("a") for _ in range(60)].count(True) == 48, "half of a hundred"


def test_nobody_is_asked_below_what_is_always_of_use() -> None:
    asked = []

    def places() -> int:
        asked.append(1)
        return 6

    room = Room(100, places, least=4)
    assert [room.enter("a") for _ in range(2)] == [True, True]
    assert not asked
    assert [room.enter(who) for who in "abbb"] == [True, True, True, False]
    assert asked
