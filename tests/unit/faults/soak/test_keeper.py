"""Which chapter is looked at when."""

from __future__ import annotations

from pathlib import Path

from faults.history.finding import Damage, Finding
from faults.history.record import Kind
from faults.soak.chapter import Chapter
from faults.soak.keeper import AGAIN_SECONDS, SETTLES_SECONDS, AwayError, Keeper
from faults.soak.verdict import Verdict


class Judged(Keeper):
    """Without processes: the verdicts are given."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, folder, list)
        self.findings: dict[str, int] = {}
        self.away = False
        self.asked: list[str] = []

    async def judge(self, chapter: Chapter) -> Verdict:
        if self.away:
            raise AwayError
        self.asked.append(chapter.name)
        number = self.findings.get(chapter.name, 0)
        found = [Finding(Damage.LOST, ("o",), "")] * number
        return Verdict(chapter.name, found, number, {}, 0, 0, 0.0, complete=True)


def closed(folder: Path, *numbers: int) -> Judged:
    keeper = Judged(folder)
    for number in numbers:
        chapter = Chapter(number)
        attempt = chapter.history.invoke(Kind.PURCHASE, key=f"k{number}")
        chapter.history.ok(attempt, f"o{number}", "queued")
        keeper.close(chapter, now=0.0)
    return keeper


async def test_a_chapter_is_left_alone_until_it_may_have_come_to_rest(tmp_path: Path) -> None:
    keeper = closed(tmp_path, 1, 2)
    assert keeper.accepted == 2
    await keeper.look(SETTLES_SECONDS - 1.0)
    assert keeper.asked == []
    for _ in range(5):
        await keeper.look(SETTLES_SECONDS)
    assert keeper.asked == ["s0001", "s0002"], "each once: they are in order"
    assert keeper.judged == 2


async def test_one_with_questions_is_asked_again_and_the_others_are_not_kept_waiting(tmp_path: Path) -> None:
    keeper = closed(tmp_path, 1, 2)
    keeper.findings["s0001"] = 3
    await keeper.look(SETTLES_SECONDS)
    assert (keeper.judged, keeper.open_questions) == (0, 3)
    await keeper.look(SETTLES_SECONDS)
    assert keeper.asked == ["s0001", "s0002"]
    keeper.findings.clear()
    await keeper.look(SETTLES_SECONDS + AGAIN_SECONDS)
    assert (keeper.judged, keeper.open_questions) == (2, 0)


async def test_servers_that_are_away_are_asked_again_and_nothing_is_known_meanwhile(tmp_path: Path) -> None:
    keeper = closed(tmp_path, 1)
    keeper.away = True
    await keeper.look(SETTLES_SECONDS)
    assert keeper.judged == 0
    keeper.away = False
    await keeper.look(SETTLES_SECONDS + AGAIN_SECONDS)
    assert keeper.judged == 1


async def test_in_the_end_all_are_judged_once_more(tmp_path: Path) -> None:
    keeper = closed(tmp_path, 1, 2)
    await keeper.look(SETTLES_SECONDS)
    keeper.findings["s0001"] = 1  # what was in order is not any more
    assert [one.number for one in await keeper.last_look()] == [1, 0]
    assert (keeper.judged, keeper.open_questions) == (1, 1)
