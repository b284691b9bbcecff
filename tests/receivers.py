"""Far sides of notifications, real ones, in the test's own loop: a server for webhooks and one for mail."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hashlib
import hmac
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peakclip_worker.channels.signature import receiver_key

MASTER_KEY = b"k" * 32

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Call:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    event: Any
    key: str  # Idempotency-Key
    verified: bool
    at: float = field(default_factory=time.time)


@dataclass
class WebhookReceiver:
    """Verifies, remembers keys, and answers what it is told to: `answers` in order, then `default`."""

    url: str = ""
    answers: list[int | Answer] = field(default_factory=list)
    default: int | Answer = 200
    calls: list[Call] = field(default_factory=list)
    effects: dict[str, Any] = field(default_factory=dict)  # by key: what a careful receiver does once
    under_way: int = 0
    most_under_way: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            body = await request.read()
            event = msgspec.json.decode(body)
            key = request.headers["Idempotency-Key"]
            verified = verifies(request, body, receiver_key(MASTER_KEY, event["tenant"], event["subject"]))
            self.calls.append(Call(request.path_qs, dict(request.headers), event, key, verified))
            self.effects.setdefault(key, event)
            answer = self.answers.pop(0) if self.answers else self.default
            return web.Response(status=answer) if isinstance(answer, int) else await answer(request)
        finally:
            self.under_way -= 1


def verifies(request: web.Request, body: bytes, key: bytes) -> bool:
    """As a receiver does by the specification, with nothing of ours but the key."""
    message_id, at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    expected = hmac.new(key, f"{message_id}.{at}.".encode() + body, hashlib.sha256).digest()
    given = [one.removeprefix("v1,") for one in request.headers["webhook-signature"].split()]
    return abs(time.time() - int(at)) < 300 and any(
        hmac.compare_digest(base64.b64decode(one), expected) for one in given
    )


@contextlib.asynccontextmanager
async def webhook_receiver(**options: Any) -> AsyncIterator[WebhookReceiver]:
    """On 127.0.0.1; `url` ends with the port."""
    receiver = WebhookReceiver(**options)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


def everything_is_here(host: str, port: int, *_: Any) -> list[Any]:
    """Looks names up like socket.getaddrinfo would if every name were this machine's."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


# -- mail --------------------------------------------------------------------------------------------------


@dataclass
class MailReceiver:
    """A mail server. `on_rcpt` and `on_data` say what it answers, or are awaited for that."""

    port: int = 0
    on_rcpt: str | Callable[[], Awaitable[str]] = "250 OK"
    on_data: str | Callable[[], Awaitable[str]] = "250 OK"
    mails: list[EmailMessage] = field(default_factory=list)  # accepted ones
    raw: list[bytes] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    password: bytes = b"s3cret"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await said(self.on_rcpt)
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        answer = await said(self.on_data)
        if answer.startswith("2") and isinstance(content, bytes):
            self.raw.append(content)
            self.mails.append(message_from_bytes(content, policy=policy.default))
            self.recipients += envelope.rcpt_tos
            self.encrypted.append(session.ssl is not None)
        return answer

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == self.password, handled=False)


async def said(answer: str | Callable[[], Awaitable[str]]) -> str:
    return answer if isinstance(answer, str) else await answer()


@contextlib.asynccontextmanager
async def mail_receiver(
    tls: ssl.SSLContext | None = None, *, implicit: bool = False, smtp: type[SMTP] = SMTP, **options: Any
) -> AsyncIterator[MailReceiver]:
    """On 127.0.0.1. `tls`: offers STARTTLS, or speaks TLS from the first byte if `implicit`."""
    receiver = MailReceiver(**options)

    def protocol() -> SMTP:
        return smtp(
            receiver,
            hostname="mail.test",
            tls_context=None if implicit else tls,
            authenticator=receiver.authenticate,
            auth_require_tls=False,
            loop=asyncio.get_running_loop(),
        )

    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", 0, ssl=tls if implicit else None
    )
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


@dataclass(frozen=True)
class Certificate:
    """Of 127.0.0.1, signed by itself, with the context of a server that has it and of a client that trusts it."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def certificate(folder: Path) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(private + pem)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return Certificate(server, ssl.create_default_context(cadata=pem.decode()))
