"""kopf watches the WorkerPools and tells what it sees; a list now and then tells what it may have missed.

kopf runs in a thread with a loop of its own: in a shared one it takes over the signals and, when it ends, cancels
every task that it did not start. Only `on.event` is used, so kopf writes nothing: no finalizer, no annotation, no
Event, no status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import kopf
import structlog
from kubernetes.aio.client import Configuration

from peakclip.errors import PeakclipError
from peakclip_operator.kubernetes.api import EVERYWHERE, ApiRefusedError, KubernetesApi, resource_path
from peakclip_operator.resource.model import GROUP, PLURAL, VERSION

log = structlog.get_logger()

Body = Mapping[str, Any]
_LIST_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 2.0
_ENDING_SECONDS: Final = 2.0
_LOGIN_MINUTES: Final = 10  # the kubelet renews a pod's token long before it ends


class Watch:
    """Calls `seen(body)`, `gone(body)` and `listed(namespace, version, bodies)` in the loop that runs it."""

    def __init__(
        self,
        api: KubernetesApi,
        namespaces: Sequence[str],
        *,
        seen: Callable[[Body], None],
        gone: Callable[[Body], None],
        listed: Callable[[str, str, Sequence[Body]], None],
    ) -> None:
        self._api = api
        self._namespaces = namespaces
        self._seen = seen
        self._gone = gone
        self._listed = listed
        self._said: str | None = None
        self._kopf_should_end = threading.Event()
        self._kopf: threading.Thread | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        clock = asyncio.get_running_loop().time
        listed = float("-inf")
        try:
            while True:
                # While nobody watches, the list alone has to be enough.
                due = not self._watched() or clock() - listed >= _LIST_SECONDS
                if due and await self._list():
                    listed = clock()
                    if not self._watched():
                        self._start_kopf()
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._kopf_should_end.set()
            if self._kopf is not None:
                await asyncio.to_thread(self._kopf.join, _ENDING_SECONDS)

    def _watched(self) -> bool:
        return self._kopf is not None and self._kopf.is_alive()

    async def _list(self) -> bool:
        """False while the API server, the definition or a permission is missing: all of them may come yet."""
        for namespace in self._namespaces:
            try:
                answer = await self._api.call("list", PLURAL, resource_path(namespace))
            except ApiRefusedError as exc:
                missing = "Install the definition of WorkerPools (crds.install in the chart)."
                self._say(missing if exc.code == 404 else str(exc), namespace)
                return False
            except PeakclipError as exc:
                self._say(str(exc), namespace)
                return False
            version = answer.get("metadata", {}).get("resourceVersion", "")
            self._listed(namespace, version, answer.get("items", []))
        if self._said is not None:
            log.info("worker_pools_listed")
            self._said = None
        return True

    def _say(self, trouble: str, namespace: str) -> None:
        if trouble != self._said:
            log.warning("worker_pools_unknown", namespace=namespace, error=trouble)
        self._said = trouble

    def _start_kopf(self) -> None:
        """A daemon, since a thread that hangs in a connection must not hold up the end of the process."""
        self._kopf_should_end.clear()
        loop = asyncio.get_running_loop()
        self._kopf = threading.Thread(target=self._run_kopf, args=(loop,), name="kopf", daemon=True)
        self._kopf.start()

    def _run_kopf(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            asyncio.run(self._operator(loop))
        except Exception as exc:  # noqa: BLE001 - logged; the next list starts it again
            log.warning("watch_ended", error=repr(exc))

    async def _operator(self, loop: asyncio.AbstractEventLoop) -> None:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def _login(**_: object) -> kopf.ConnectionInfo:
            return await connection(self._api.configuration)

        @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
        async def _event(event: Mapping[str, Any], **_: object) -> None:
            tell = self._gone if event["type"] == "DELETED" else self._seen
            with contextlib.suppress(RuntimeError):  # the other loop has just ended
                loop.call_soon_threadsafe(tell, event["object"])

        everywhere = EVERYWHERE in self._namespaces
        await kopf.operator(
            registry=registry,
            settings=kopf_settings(),
            standalone=True,
            clusterwide=everywhere,
            namespaces=[] if everywhere else list(self._namespaces),
            stop_flag=self._kopf_should_end,
        )


def kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True  # no rights on namespaces and definitions
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 10
    settings.networking.error_backoffs = (0.5, 1, 2)
    # A watch whose connection is dead, with nobody to say so, is made anew.
    settings.watching.server_timeout = 60
    settings.watching.client_timeout = 75
    settings.watching.connect_timeout = 5
    settings.process.ultimate_exiting_timeout = None
    return settings


async def connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """What the client knows of the cluster, for kopf. Ends after a while, so that a renewed token is read."""
    header = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        scheme="Bearer" if header else None,
        token=header.rpartition(" ")[2] or None,
        expiration=datetime.now(UTC) + timedelta(minutes=_LOGIN_MINUTES) if header else None,
    )


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if "signals are ignored" in record.getMessage():  # as it should be in a thread
            return
        log.log(record.levelno, "kopf", logger=record.name, message=record.getMessage())


def route_logs() -> None:
    """kopf's warnings become lines like all others."""
    for name in ("kopf", "kubernetes"):
        logger = logging.getLogger(name)
        logger.handlers = [_ToStructlog()]
        logger.setLevel(logging.WARNING)
        logger.propagate = False
