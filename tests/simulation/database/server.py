"""One PostgreSQL server: its sessions, who waits for whom, and how they end. Knows no network.

What is asked of a session is answered by a call, at once or when its turn has come. `later` calls back after so many
seconds; `takes` draws how long the next step of a statement takes, its commit included: 0 is at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from simulation.database.statements import Statement
from simulation.database.store import Store, Transaction

Answer = Callable[[Any], None]  # with what was answered, an exception if it failed
Later = Callable[[float, Callable[[], None]], None]


@dataclass(eq=False, slots=True)
class Running:
    """A statement under way."""

    steps: Generator[Transaction | None, None, Any]
    answer: Answer
    waits_for: Transaction | None = None


@dataclass(eq=False, slots=True)
class Session:
    number: int
    tx: Transaction | None = None
    explicit: bool = False  # the transaction was begun by the client, who ends it
    failed: bool = False  # it can only be rolled back
    alive: bool = True
    running: Running | None = None
    leaving: bool = False  # the client has gone: ends with what it is doing


def _at_once(seconds: float, call: Callable[[], None]) -> None:
    call()


@dataclass(eq=False, slots=True)
class Server:
    now: Callable[[], float]
    later: Later = _at_once
    takes: Callable[[], float] = lambda: 0.0
    store: Store = field(default_factory=Store)
    sessions: list[Session] = field(default_factory=list)
    deadlocks: int = 0
    _waiting: list[Session] = field(default_factory=list)  # in the order in which they came
    _opened: int = 0

    def open(self) -> Session:
        self._opened += 1
        session = Session(self._opened)
        self.sessions.append(session)
        return session

    # -- what a client asks for ----------------------------------------------------------------------------

    def begin(self, session: Session, answer: Answer) -> None:
        session.tx, session.explicit, session.failed = Transaction(self.store, self.now), True, False
        answer("BEGIN")

    def commit(self, session: Session, answer: Answer) -> None:
        """A transaction that has failed is rolled back, and says so."""
        self._after(session, lambda: self._committed(session, answer))

    def _committed(self, session: Session, answer: Answer) -> None:
        failed, tx = session.failed, session.tx
        session.tx, session.explicit, session.failed = None, False, False
        if tx is not None:
            (tx.abort if failed else tx.commit)()
        answer("ROLLBACK" if failed else "COMMIT")
        self._go_on()

    def rollback(self, session: Session, answer: Answer) -> None:
        self._drop(session)
        answer("ROLLBACK")
        self._go_on()

    def run(self, session: Session, statement: Statement, args: Sequence[Any], answer: Answer) -> None:
        if session.failed:
            answer(asyncpg.InFailedSQLTransactionError("current transaction is aborted"))
            return
        if session.tx is None:
            session.tx = Transaction(self.store, self.now)
        session.tx.statement_began = session.tx.clock()
        session.running = Running(statement(session.tx, *args), answer)
        self._step(session)

    def _step(self, session: Session) -> None:
        """As far as it can go."""
        running = session.running
        if running is None:
            return
        try:
            waits_for = next(running.steps)
        except StopIteration as end:
            value = end.value
            self._after(session, lambda: self._done(session, value))
        except asyncpg.PostgresError as exc:
            self._fail(session, exc)
        else:
            if waits_for is None:
                self._after(session, lambda: self._step(session))
            else:
                running.waits_for = waits_for
                self._waiting.append(session)
                if self._is_in_a_circle(session):
                    self.deadlocks += 1
                    self._waiting.remove(session)
                    self._fail(session, asyncpg.DeadlockDetectedError("deadlock detected"))

    def _after(self, session: Session, call: Callable[[], None]) -> None:
        seconds = self.takes()
        if seconds <= 0:
            call()
        else:
            self.later(seconds, lambda: call() if session.alive else None)

    def _done(self, session: Session, value: Any) -> None:
        """An autocommit has its effect now; an error of it is too late."""
        running, session.running = session.running, None
        if running is None:
            return
        if not session.explicit and session.tx is not None:
            session.tx.commit()
            session.tx = None
        self._said(session, running, value)

    def _fail(self, session: Session, exc: Exception) -> None:
        running, session.running = session.running, None
        if running is None:
            return
        running.steps.close()
        explicit = session.explicit
        self._drop(session)  # what it held is free at once, although the client has still to end it
        session.explicit = session.failed = explicit
        self._said(session, running, exc)

    def _said(self, session: Session, running: Running, value: Any) -> None:
        running.answer(value)
        if session.leaving:
            self._end(session)
        self._go_on()

    # -- who waits for whom --------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Those who waited for what has ended, in the order in which they came."""
        for session in list(self._waiting):
            running = session.running
            if session not in self._waiting or running is None or running.waits_for is None:
                continue
            if not running.waits_for.is_open:
                self._waiting.remove(session)
                running.waits_for = None
                self._step(session)

    def _is_in_a_circle(self, session: Session) -> bool:
        by_tx = {id(one.tx): one for one in self.sessions if one.tx is not None}
        at: Session | None = session
        seen: set[int] = set()
        while at is not None and at.running is not None and at.running.waits_for is not None:
            if at.number in seen:
                return True
            seen.add(at.number)
            at = by_tx.get(id(at.running.waits_for))
        return False

    def is_waiting(self, session: Session) -> bool:
        return session in self._waiting

    # -- how it ends ---------------------------------------------------------------------------------------

    def cancel(self, session: Session) -> None:
        """What is under way, if anything is."""
        if session in self._waiting:
            self._waiting.remove(session)
        self._fail(session, asyncpg.QueryCanceledError("canceling statement due to user request"))

    def leave(self, session: Session) -> None:
        """The client has gone: what is under way is brought to its end, an open transaction is rolled back."""
        if session.running is not None:
            session.leaving = True
        else:
            self._end(session)
            self._go_on()

    def terminate(self, session: Session) -> None:
        """`pg_terminate_backend`: what is under way has never been."""
        if not session.alive:
            return
        running = session.running
        self._end(session)
        if running is not None:
            running.steps.close()
            running.answer(asyncpg.AdminShutdownError("terminating connection due to administrator command"))
        self._go_on()

    def crash(self) -> None:
        """And a start: what was committed is there, nothing else."""
        for session in list(self.sessions):
            running = session.running
            self._end(session)
            if running is not None:
                running.steps.close()

    def _end(self, session: Session) -> None:
        session.alive, session.running = False, None
        if session in self._waiting:
            self._waiting.remove(session)
        if session in self.sessions:
            self.sessions.remove(session)
        self._drop(session)

    def _drop(self, session: Session) -> None:
        tx = session.tx
        session.tx, session.explicit, session.failed = None, False, False
        if tx is not None and tx.is_open:
            tx.abort()
