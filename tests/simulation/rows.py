"""PostgreSQL's READ COMMITTED with row locks, as small as the statements about an order need it.

A process is one transaction: a generator of the steps between which another transaction can come. What the model
knows of PostgreSQL, and tests/integration/test_statement_model.py holds against the real one:

* a statement reads the rows that were committed when it began, and its own;
* a row that it wants to change or lock is waited for while another transaction has it; if that one has changed it,
  the condition is judged again, on the new row and with the clock of then; if it has only locked it, or died, what
  the statement saw and computed at its beginning counts;
* a unique key that another transaction has inserted is waited for until that one has ended;
* a transaction that ends without a commit has never been.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Key = tuple[str, Hashable]
View = Mapping[Key, Any]  # the rows that a statement sees
Condition = Callable[[Any, int], bool]  # of a row, at a time
Change = Callable[[Any, int], Any]  # the new row


class Seen(NamedTuple):
    """A row as it was committed."""

    row: Any
    writes: int  # how often: tells whether another transaction has changed it since


class Sight(NamedTuple):
    """A row as a statement saw it at its beginning."""

    row: Any
    writes: int
    at: int


@dataclass(frozen=True)
class Read:
    """A statement begins: what it finds, from one snapshot."""

    what: str
    look: Callable[[View, int], Hashable]


@dataclass(frozen=True)
class Take:
    """Waits for a row and takes it: to change it (`change`), or to lock it. Answers None if it no longer fits."""

    what: str
    key: Key
    sight: Sight | None  # None: the statement asks for nothing but the key
    fits: Condition
    change: Change | None = None


@dataclass(frozen=True)
class Insert:
    """Answers whether it was inserted. Without `or_nothing` a row that is there already ends the transaction."""

    key: Key
    row: Any
    or_nothing: bool = False

    @property
    def what(self) -> str:
        return f"insert {self.key}"


@dataclass(frozen=True)
class Emit:
    """Rows of the outbox: nobody waits for them, so this is no step of its own."""

    rows: tuple[Any, ...]
    what: str = "outbox"


Step = Read | Take | Insert | Emit
Program = Callable[[], Generator[Step, Any, str]]  # returns the answer, and then commits

RUNNING, DONE, DIED = "running", "done", "died"
FAILED = "failed: a row with this key is there already"


def find(key: Key, fits: Condition, what: str = "find") -> Generator[Step, Any, Any]:
    """A `Sight` of the row as the statement's snapshot has it, if it fits."""

    def look(rows: View, now: int) -> Hashable:
        seen = rows.get(key)
        return Sight(*seen, now) if seen is not None and fits(seen.row, now) else None

    return (yield Read(f"{what} {key[1]}", look))


def lock(key: Key, fits: Condition) -> Generator[Step, Any, Any]:
    """`select … for update`; the row, or None."""
    sight = yield from find(key, fits)
    return None if sight is None else (yield Take(f"lock {key[1]}", key, sight, fits))


def update(key: Key, fits: Condition, change: Change) -> Generator[Step, Any, Any]:
    """`update … where …`; the new row, or None."""
    sight = yield from find(key, fits)
    return None if sight is None else (yield Take(f"update {key[1]}", key, sight, fits, change))


def write(key: Key, change: Change) -> Take:
    """`update … where` nothing but the key. Answers the new row."""
    return Take(f"update {key[1]}", key, None, always, change)


def hold(key: Key) -> Take:
    """`select … for update` where nothing but the key is asked for. Answers the row."""
    return Take(f"lock {key[1]}", key, None, always)


def always(_row: Any, _now: int) -> bool:
    return True


class Process(NamedTuple):
    heard: tuple[
        Any, ...
    ] = ()  # the answers to its steps so far: with the program they are all that it knows
    writes: tuple[tuple[Key, Any], ...] = ()
    locks: frozenset[Key] = frozenset()
    emits: tuple[Any, ...] = ()
    state: str = RUNNING
    answer: str = ""


class World(NamedTuple):
    rows: frozenset[tuple[Key, Seen]]  # committed
    outbox: tuple[Any, ...]  # committed, sorted: their order is of no interest
    processes: tuple[Process, ...]
    now: int = 0

    def row(self, *key: Any) -> Any:
        return dict(self.rows)[key].row

    def rows_of(self, table: str) -> dict[Any, Any]:
        return {key[1]: seen.row for key, seen in self.rows if key[0] == table}


@dataclass(frozen=True)
class Model:
    """Programs that run side by side."""

    programs: Sequence[tuple[str, Program]]
    rows: Mapping[Key, Any]
    _steps: dict[tuple[int, tuple[Any, ...]], Step | str] = field(default_factory=dict)

    def start(self) -> World:
        rows = frozenset((key, Seen(row, 0)) for key, row in self.rows.items())
        return World(rows, (), (Process(),) * len(self.programs))

    def next_step(self, world: World, number: int) -> Step | str:
        """What a process wants to do next, or its answer if it wants to commit."""
        heard = world.processes[number].heard
        step = self._steps.get((number, heard))
        if step is None:
            step = self._steps[number, heard] = _replay(self.programs[number][1], heard)
        return step

    def blocked_by(self, world: World, number: int) -> int | None:
        """The process that it waits for."""
        step = self.next_step(world, number)
        if isinstance(step, (Take, Insert)):
            for other, process in enumerate(world.processes):
                if other != number and step.key in process.locks:
                    return other
        return None

    def moved(self, world: World, number: int) -> World:
        """After the next step of a process, which is not blocked."""
        world = self._once(world, number)
        while world.processes[number].state == RUNNING and self._concerns_nobody(world, number):
            world = self._once(world, number)
        return world

    def _concerns_nobody(self, world: World, number: int) -> bool:
        """Whether it makes no difference when the next step is made: the outbox, or a row that is locked already."""
        step = self.next_step(world, number)
        return isinstance(step, Emit) or (
            isinstance(step, Take) and step.key in world.processes[number].locks
        )

    def _once(self, world: World, number: int) -> World:
        process = world.processes[number]
        step = self.next_step(world, number)
        if isinstance(step, str):
            return self._committed(world, number, step)
        if isinstance(step, Emit):
            heard = (*process.heard, None)
            return _with(world, number, process._replace(heard=heard, emits=process.emits + step.rows))
        rows = _seen_by(world, process)
        if isinstance(step, Read):
            answer = step.look(rows, world.now)
            return _with(world, number, process._replace(heard=(*process.heard, answer)))
        if isinstance(step, Take):
            return _with(world, number, _taken(process, step, rows, world.now))
        if step.key in rows and not step.or_nothing:
            return _with(world, number, Process(state=DONE, answer=FAILED))
        if step.key in rows:
            return _with(world, number, process._replace(heard=(*process.heard, False)))
        process = process._replace(writes=(*process.writes, (step.key, step.row)))
        locks = process.locks | {step.key}
        return _with(world, number, process._replace(heard=(*process.heard, True), locks=locks))

    def _committed(self, world: World, number: int, answer: str) -> World:
        process = world.processes[number]
        rows = dict(world.rows)
        for key, row in process.writes:
            rows[key] = Seen(row, rows[key].writes + 1 if key in rows else 0)
        world = world._replace(
            rows=frozenset(rows.items()), outbox=tuple(sorted((*world.outbox, *process.emits)))
        )
        return _with(world, number, Process(state=DONE, answer=answer))

    def died(self, world: World, number: int) -> World:
        return _with(world, number, Process(state=DIED))


def _replay(program: Program, heard: Sequence[Any]) -> Step | str:
    body = program()
    try:
        step = next(body)
        for answer in heard:
            step = body.send(answer)
        return step
    except StopIteration as end:
        return str(end.value)


def _taken(process: Process, step: Take, rows: View, now: int) -> Process:
    row, writes = rows[step.key]
    locks = process.locks | {step.key}  # kept to the end even if the row no longer fits
    if step.sight is not None and step.sight.writes == writes:
        now = step.sight.at  # PostgreSQL has computed the new row before it waited
    elif not step.fits(row, now):
        return process._replace(heard=(*process.heard, None), locks=locks)
    if step.change is None:
        return process._replace(heard=(*process.heard, row), locks=locks)
    row = step.change(row, now)
    before = tuple((key, old) for key, old in process.writes if key != step.key)
    return process._replace(heard=(*process.heard, row), locks=locks, writes=(*before, (step.key, row)))


def _seen_by(world: World, process: Process) -> dict[Key, Seen]:
    rows = dict(world.rows)
    for key, row in process.writes:
        rows[key] = Seen(row, rows[key].writes if key in rows else 0)
    return rows


def _with(world: World, number: int, process: Process) -> World:
    processes = (*world.processes[:number], process, *world.processes[number + 1 :])
    return world._replace(processes=processes)
