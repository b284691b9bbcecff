"""The live view: everything in it, nothing that is not known told as zero."""

from __future__ import annotations

import io

from faults.nemesis.plan import Fault, Kind
from faults.soak.tally import Counts
from faults.soak.view import PLAIN_EVERY, Display, View, clock, picture, plain_line


def known() -> View:
    view = View(
        seed=7,
        seconds=2_400.0,
        phase="load and faults",
        elapsed=754.0,
        chapters=9,
        judged=7,
        open_questions=2,
    )
    view.counts = Counts(
        accepted=412_345, committed=411_900, paid=21_000, cancelled=9_000, cancellations=30_500, retries=5_120,
        unanswered=4_000, come_again=1_120, unknown=12,
    )  # fmt: skip
    view.accepted_rate, view.committed_rate = 547.2, 551.0
    for fault in (Fault(1.0, Kind.FREEZE, "nats", 1.25), Fault(2.0, Kind.KILL, "api")):
        view.faults.begins(fault)
    over = Fault(0.5, Kind.CUT, "relay-nats", 0.1)
    view.faults.begins(over)
    view.faults.ends(over, 10.0, missed=False)
    return view


def test_the_picture() -> None:
    assert picture(known()) == [
        "  soak       load and faults; 12:34 of 40:00; seed 7",
        "  accepted       412,345      547/s",
        "  committed      411,900      551/s   backlog 445",
        "  since      paid 21,000, cancelled 9,000, reaped 21,500",
        "  clients    5,120 retries: 4,000 without an answer, 1,120 told to come again; 12 outcomes unknown",
        "  faults     1: cut 1",
        "  now        freeze nats 1.2 s, kill api",
        "  history    7 of 9 chapters in order, 2 open questions, 0 findings",
    ]


def test_the_line() -> None:
    assert plain_line(known()) == (
        "  12:34 load and faults · accepted 412,345 (547/s) · committed 411,900 · backlog 445 · paid 21,000"
        " · cancelled 9,000 · reaped 21,500 · faults 1 · retries 5,120 · findings 0 (+2 open)"
        " · now: freeze nats 1.2 s, kill api"
    )


def test_what_is_not_known_is_a_question_mark() -> None:
    line = plain_line(View(seed=1, seconds=60.0))
    assert "committed ?" in line
    assert "backlog ?" in line
    assert "reaped ?" in line
    assert "accepted 0 (?)" in line


def test_times() -> None:
    assert [clock(seconds) for seconds in (0, 7.9, 754, 3_723)] == ["0:00", "0:07", "12:34", "1:02:03"]


def test_a_long_list_of_faults_does_not_wrap() -> None:
    view = known()
    for number in range(50):
        view.faults.begins(Fault(1.0, Kind.BLACKHOLE, f"link-{number}", 1.0))
    assert max(map(len, picture(view))) <= 110


def test_elsewhere_than_at_a_terminal_a_line_now_and_then() -> None:
    out = io.StringIO()
    display = Display(out)
    for second in range(12):
        display.show(known(), float(second))
    assert len(out.getvalue().splitlines()) == 1 + int(11 / PLAIN_EVERY)
    display.show(known(), 12.0, always=True)
    assert out.getvalue().count("\n") == 4


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_drawn_over_and_what_is_said_stays() -> None:
    out = _Terminal()
    display = Display(out)
    display.show(known(), 0.0)
    display.show(known(), 0.5)
    assert out.getvalue().count("\x1b[8A") == 1
    display.say("The load ends.")
    display.show(known(), 1.0)
    assert out.getvalue().count("\x1b[8A") == 1
