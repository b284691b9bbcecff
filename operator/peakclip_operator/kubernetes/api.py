"""The thin port to the API server: one request at a time, as JSON, with a deadline, counted.

Built on the client's transport (addresses, certificates, tokens that are read again) and not on its generated
methods: those turn every answer into validated objects, which takes a hundred times as long for the pods that this
operator lists twice a second for each pool, and their modules take 36 MB.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from peakclip import telemetry
from peakclip.errors import PeakclipError, SettingsError
from peakclip_operator.resource.model import API_VERSION, PLURAL
from peakclip_operator.resource.trouble import ForbiddenError, KubernetesUnavailableError

MERGE_PATCH: Final = "application/merge-patch+json"
_FIELD_MANAGER: Final = "peakclip-operator"
# A busy control plane needs a second. Below the loop's patience with a port, so that the failure has a name.
_REQUEST_SECONDS: Final = 2.5
PORT_SECONDS: Final = 3.0
_READS: Final = ("get", "list")


class NotLeaderError(PeakclipError):
    """Another operator holds the lease, so this one writes nothing."""


class ApiRefusedError(PeakclipError):
    """The API server answered with an error."""

    def __init__(self, code: int, verb: str, resource: str, message: str) -> None:
        super().__init__(f"{message or 'The API server refused'} ({code}, {verb} {resource})")
        self.code = code
        self.verb = verb
        self.resource = resource


class KubernetesApi:
    """`may_write` is asked before everything but reading and the lease."""

    def __init__(self, configuration: Configuration, may_write: Callable[[], bool] = lambda: True) -> None:
        self.configuration = configuration
        self.may_write = may_write
        self._client = ApiClient(configuration)

    @classmethod
    async def connect(cls) -> Self:
        """In a pod by its service account, elsewhere by KUBECONFIG. Raises SettingsError when there is neither."""
        return cls(await load_configuration())

    async def close(self) -> None:
        await self._client.close()

    async def call(
        self,
        verb: str,
        resource: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> dict[str, Any]:
        """`resource` is the name as in RBAC, for the counter and for messages.

        Raises KubernetesUnavailableError without an answer, ForbiddenError, and ApiRefusedError for other errors.
        """
        answer: dict[str, Any] = msgspec.json.decode(
            await self.raw(verb, resource, path, query=query, body=body)
        )
        return answer

    async def raw(
        self,
        verb: str,
        resource: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> bytes:
        """As `call`, the answer undecoded."""
        if verb not in _READS and resource != "leases" and not self.may_write():
            raise NotLeaderError
        parameters = dict(query or {})
        if verb not in _READS:
            parameters["fieldManager"] = _FIELD_MANAGER
        try:
            code, data = await self._send(verb, path, parameters, body)
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as exc:
            _count(verb, resource, "none")
            raise KubernetesUnavailableError(f"The API server does not answer: {exc!r}") from exc
        _count(verb, resource, str(code))
        if code == 403:
            raise ForbiddenError(verb, resource)
        if not 200 <= code < 300:
            raise ApiRefusedError(code, verb, resource, _message(data))
        return data

    async def _send(
        self, verb: str, path: str, parameters: Mapping[str, str], body: object
    ) -> tuple[int, bytes]:
        headers = {"Accept": "application/json", "User-Agent": _FIELD_MANAGER}
        if body is not None:
            headers["Content-Type"] = MERGE_PATCH if verb == "patch" else "application/json"
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
        url = f"{self.configuration.host}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
        response = await self._client.call_api(
            _METHODS[verb],
            url,
            headers,
            body,
            _request_timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS),
        )
        return response.status, await response.read()


_METHODS: Final = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH"}


async def load_configuration() -> Configuration:
    configuration = Configuration()
    # The next tick asks again: a repetition inside the client would only make this one late.
    configuration.retries = None
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(configuration)
        else:
            await config.load_kube_config(client_configuration=configuration, persist_config=False)
    except (config.ConfigException, OSError) as exc:
        raise SettingsError(f"There is no way to a cluster: {exc}") from exc
    return configuration


EVERYWHERE: Final = "*"  # instead of a namespace


def path_to(group_version: str, namespace: str, plural: str, name: str = "", subresource: str = "") -> str:
    """`apps/v1` and `v1` alike; EVERYWHERE for a list of all namespaces."""
    root = "apis" if "/" in group_version else "api"
    within = [] if namespace == EVERYWHERE else ["namespaces", namespace]
    parts = [root, group_version, *within, plural, name, subresource]
    return "/" + "/".join(quote(part, safe="/") for part in parts if part)


def resource_path(namespace: str, name: str = "", subresource: str = "") -> str:
    """To WorkerPools."""
    return path_to(API_VERSION, namespace, PLURAL, name, subresource)


def _count(verb: str, resource: str, code: str) -> None:
    telemetry.API_REQUESTS.labels(verb, resource, code).inc()


def _message(data: bytes) -> str:
    try:
        answer = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return data[:200].decode(errors="replace")  # something in front of the API server
    return str(answer.get("message", "")) if isinstance(answer, dict) else ""
