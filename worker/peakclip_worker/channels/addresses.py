"""Addresses of far sides: read, and refused where nobody should be sent to. No look-up, no connection."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from email.headerregistry import Address
from typing import Final
from urllib.parse import unquote, urlsplit

from yarl import URL

# The IANA's registry of special-purpose IPv4 addresses, multicast and what is reserved.
_NOT_PUBLIC: Final = [
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
# Of IPv6 what is allocated to the public, less what leads elsewhere: protocols and tunnels, examples, 6to4.
_PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = [
    ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # how a network without IPv4 reaches IPv4

_MOST_CHARACTERS: Final = 254  # of an e-mail address on the wire
_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN: Final = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, so that a webhook may go there.

    >>> [is_public(one) for one in ("1.1.1.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1")]
    [True, False, False, False, False]
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is None:
            return ip in _PUBLIC_V6 and not any(ip in network for network in _NOT_PUBLIC_V6)
        ip = inner
    return not any(ip in network for network in _NOT_PUBLIC)


def webhook_url(address: str) -> URL:
    """Raises ValueError, with a reason that does not repeat the address, for what is no URL of a webhook."""
    try:
        url = URL(address)
        port = url.port
    except ValueError:
        raise ValueError("the address is no URL") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("only http and https are spoken")
    if not url.host or not port:
        raise ValueError("the address names no host")
    if url.user is not None or url.password is not None:
        raise ValueError("a password has no place in an address: the signature says who sends")
    return url.with_fragment(None)


def mailbox(address: str) -> str:
    """The address as SMTP takes it, ASCII only. Raises ValueError for what is not exactly one address.

    >>> mailbox("ada@bücher.example")
    'ada@xn--bcher-kva.example'
    """
    local, at, domain = address.rpartition("@")
    try:
        domain = domain.encode("idna").decode()
    except UnicodeError:
        domain = ""
    whole = f"{local}@{domain}"
    if (
        not at
        or not _LOCAL_PART.fullmatch(local)
        or not _DOMAIN.fullmatch(domain)
        or len(whole) > _MOST_CHARACTERS
    ):
        raise ValueError("this is not one e-mail address that can be written in ASCII")
    return whole


def sender_of(text: str) -> Address:
    """Reads `Peakclip <orders@shop.example>` or an address alone. Raises ValueError."""
    name, bracket, rest = text.rpartition("<")
    address = mailbox(rest.removesuffix(">") if bracket else text.strip())
    if bracket and not rest.endswith(">"):
        raise ValueError("the bracket around the address is not closed")
    return Address(display_name=one_line(name).strip('" '), addr_spec=address)


def one_line(text: str) -> str:
    """Without line breaks and other control characters, which have no place in a header.

    >>> one_line("Paid\\r\\nBcc: all@example.org")
    'Paid Bcc: all@example.org'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over."""

    host: str
    port: int
    implicit_tls: bool  # TLS from the first byte; otherwise STARTTLS, if the server offers it
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def mail_server(url: str) -> MailServer:
    """Reads `smtp://user:password@host:587` or `smtps://…:465`. Raises ValueError without repeating the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("this is no URL like smtp://user:password@host:587") from None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("this is no URL like smtp://user:password@host:587 or smtps://host")
    if (parts.username is None) != (parts.password is None):
        raise ValueError("a user and a password belong together")
    tls = parts.scheme == "smtps"
    return MailServer(
        parts.hostname,
        port or (465 if tls else 587),
        tls,
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
    )
