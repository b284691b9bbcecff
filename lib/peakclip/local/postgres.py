"""A real PostgreSQL 18 on this machine: durable commits, a password, TCP on the loopback, no socket file.

PostgreSQL refuses to run as root. Then it runs as `nobody`, who must be able to enter the folder of the data
and read the programs; where a closed home is in the way, the data go to /var/lib/peakclip and the programs
are copied beside them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
import psutil

from peakclip.local import accounts, launch
from peakclip.local.files import read_json, write_json
from peakclip.local.ports import LOOPBACK, free_port
from peakclip.local.process import Account, ProcessError, ProcessSpec
from peakclip.local.programs import programs
from peakclip.local.server import Server, minimal_env

_USER: Final = "peakclip"
# One of them is there whenever it serves, or will by itself.
_RECOVERS_OR_SERVES: Final = ("startup", "walwriter")
_ELSEWHERE: Final = Path("/var/lib/peakclip")  # for root with --data in a closed folder

# Durability is written out although these are the defaults: the report says `durable` because of them.
_SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # compiling costs more than these short statements
}


class PostgresServer(Server):
    """Prepared with `prepare`, run with `start`/`stop`/`kill` or by a supervisor from `spec`."""

    start_attempts = 20  # after a SIGKILL, until the last backend has let go of the shared memory

    def __init__(self, directory: Path, log: Path | None = None) -> None:
        super().__init__()
        self._directory = directory
        self._log = log or directory / "postgres.log"
        self._account = Account()
        self._home = directory
        self._port = 0
        self._password = ""
        self._looked_stuck = False

    @property
    def url(self) -> str:
        return self.url_of("peakclip")

    def url_of(self, database: str) -> str:
        return f"postgresql://{_USER}:{self._password}@{LOOPBACK}:{self._port}/{database}?sslmode=disable"

    def prepare(self) -> Self:
        """Makes the database cluster on the first run, and the specification of the process on every run."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._directory / "settings.json"
        kept = read_json(path) or {}
        self._account = accounts.unprivileged(kept.get("account"))
        self._home = Path(kept["home"]) if kept.get("home") else _home(self._directory, self._account)
        self._password = kept.get("password") or secrets.token_hex(16)
        self._port = free_port(kept.get("port"))
        folder = programs(self._home, self._account)
        data = self._home / "data"
        if not kept.get("port"):
            shutil.rmtree(data, ignore_errors=True)  # of an attempt whose password was not written down
            self._initdb(folder, data)
        elif not data.exists():
            raise ProcessError(f"The database is missing: {path} says that it is in {data}.")
        write_json(path, self._settings())
        self._spec = self._make_spec(folder / "postgres", data)
        return self

    def discard(self) -> None:
        """Removes data that are not kept."""
        shutil.rmtree(self._home, ignore_errors=True)

    def _settings(self) -> dict[str, Any]:
        elsewhere = None if self._home == self._directory else str(self._home)
        account = self._account.uid or os.geteuid()
        return {"port": self._port, "password": self._password, "home": elsewhere, "account": account}

    def _make_spec(self, program: Path, data: Path) -> ProcessSpec:
        options = [f"-c{name}={value}" for name, value in {**_SETTINGS, "port": self._port}.items()]
        return ProcessSpec(
            name="postgres",
            argv=[str(program), "-D", str(data), *options],
            env=minimal_env(),
            log=self._log,
            readiness=self._answers,
            sick=self.sick,
            sick_seconds=10.0,
            before=lambda: _clear_stale_pid(data),
            account=self._account,
            stop_signal=signal.SIGINT,  # fast: rolls back what is open; SIGTERM would wait for clients
            stop_seconds=20,
            death_signal=signal.SIGINT,
        )

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url_of("postgres"), timeout=5)
            await connection.close()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    async def sick(self) -> str | None:
        """Why only a new start helps: for the second time there is nobody who recovers or serves.

        After a sync that failed it ends all its processes and recovers. If a sync fails in the midst of that, the
        process that recovers ends, and PostgreSQL 18 neither begins again nor ends: it refuses everybody for ever.
        """
        seen, self._looked_stuck = self._looked_stuck, is_stuck(_titles(self._home / "data"))
        return "nobody recovers it or writes its log" if seen and self._looked_stuck else None

    def _initdb(self, folder: Path, data: Path) -> None:
        password_file = data.parent / "password"
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._password)
        if self._account.uid:
            os.chown(password_file, self._account.uid, self._account.gid)
        command = [str(folder / "initdb"), "-D", str(data), "-U", _USER, f"--pwfile={password_file}"]
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            done = _run_as(self._account, [*command, "--auth=scram-sha-256", *locale])
        finally:
            password_file.unlink()
        if done.returncode != 0:
            raise ProcessError(f"PostgreSQL's initdb failed: {done.stderr.strip() or done.stdout.strip()}")


def is_stuck(titles: Sequence[str]) -> bool:
    """By the titles of its processes, which are none while it starts or ends.

    >>> is_stuck(["postgres: checkpointer", "postgres: io worker 0"]), is_stuck(["postgres: startup recovering 00"])
    (True, False)
    """
    return bool(titles) and not any(name in title for title in titles for name in _RECOVERS_OR_SERVES)


def _titles(data: Path) -> list[str]:
    try:
        server = psutil.Process(int((data / "postmaster.pid").read_text().split("\n", 1)[0]))
        return [" ".join(child.cmdline()) for child in server.children()]
    except (OSError, ValueError, psutil.Error):
        return []


def _run_as(account: Account, argv: list[str]) -> subprocess.CompletedProcess[str]:
    numbers = [str(int(signal.SIGKILL)), str(os.getpid()), str(account.uid), str(account.gid), "0"]
    return subprocess.run(  # noqa: S603
        [sys.executable, "-I", "-S", launch.__file__, *numbers, *argv],
        env=minimal_env(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _home(directory: Path, account: Account) -> Path:
    """The folder that holds the cluster: `directory`, or one that the account can reach."""
    parent = directory.parent
    if account.uid == 0 or accounts.can_reach(parent, account, wanted=0o111):
        home = directory
    else:
        name = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
        home = _ELSEWHERE / name
    try:
        for folder in (home.parent, home):
            folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        if account.uid:
            home.parent.chmod(home.parent.stat().st_mode | 0o111)
            os.chown(home, account.uid, account.gid)
            home.chmod(0o700)
    except OSError as exc:
        raise ProcessError(
            f"PostgreSQL cannot run as root, its account cannot enter {parent}, and {home} cannot be made "
            f"({exc.strerror}): choose --data in a folder that everybody may enter."
        ) from exc
    return home


def _clear_stale_pid(data: Path, patience_seconds: float = 30.0) -> None:
    """Waits for a server that is still going down, and removes the pid file of one that is gone.

    After a reboot, or in a new container, the number in the file may belong to any process of the same
    account, and PostgreSQL would refuse to start. The caller holds the lock of the folder, so no live
    stack owns it.
    """
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            process = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
            ours = str(data) in process.cmdline()
        except (OSError, ValueError, psutil.Error):
            return  # nobody has that number: PostgreSQL itself finds out and goes on
        if not ours:
            break
        if time.monotonic() > deadline:
            raise ProcessError(f"Another PostgreSQL (pid {process.pid}) still runs on {data}: stop it first.")
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    with contextlib.suppress(FileNotFoundError):
        pid_file.unlink()
