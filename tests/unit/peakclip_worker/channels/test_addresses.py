"""Where nobody is to be sent, and addresses that are none."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakclip_worker.channels.addresses import (
    MailServer,
    is_public,
    mail_server,
    mailbox,
    one_line,
    sender_of,
    webhook_url,
)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.0.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
        "192.88.99.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "fe80::1", "fe80::1%lo", "fec0::1", "fd00::1", "ff02::1", "2001:db8::1",
        "3fff::1", "100::1", "5f00::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254",  # IPv4 in IPv6
        "64:ff9b::10.0.0.1", "64:ff9b:1::a00:1",  # by a translator
        "2002:7f00:1::", "2001:0:53aa:64c:0:fbfe:80ff:fffe",  # by a tunnel: 6to4, Teredo
    ],
)  # fmt: skip
def test_private_and_special_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_nothing_is_public_that_python_calls_private(address: ipaddress.IPv4Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_loopback:
        assert not is_public(str(address))
    assert is_public(f"::ffff:{address}") == is_public(f"64:ff9b::{address}") == is_public(str(address))


@pytest.mark.parametrize(
    "address",
    [
        "", "x", "hooks.example/in", "//hooks.example/in", "ftp://hooks.example", "file:///etc/passwd", "http://",
        "http:///in", "http://ada:s3cret@hooks.example/", "http://ada@hooks.example/", "http://hooks.example:99999/",
        "http://hooks.example:x/", "javascript:alert(1)", "http://[::1/", "http://hooks.example:0/",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_webhook(address: str) -> None:
    with pytest.raises(ValueError, match=r"address|http and https") as refused:
        webhook_url(address)
    assert "s3cret" not in str(refused.value)


def test_an_address_of_a_webhook() -> None:
    url = webhook_url("HTTPS://Hooks.Example:8443/in?token=a%20b#part")
    assert str(url) == "https://hooks.example:8443/in?token=a%20b"


@pytest.mark.parametrize(
    "address",
    [
        "", "ada", "@example.org", "ada@", "ada@@example.org", "a b@example.org", "ada@example.org, eve@example.org",
        "ada@example.org\r\nBcc: eve@example.org", "ada@example.org\n", "<ada@example.org>", "Ada <ada@example.org>",
        '"a\r\n"@example.org', "ada@exa mple.org", "ada@example..org", "ada@-example.org", ".ada@example.org",
        "ada..b@example.org", "ädä@example.org", "ada@[127.0.0.1]", f"{'a' * 250}@example.org",
        "ada@" + "x" * 64 + ".org",
        "ada@example.org\0", "ada(comment)@example.org", "ada@example.org\u2028x",
    ],
)  # fmt: skip
def test_what_is_not_one_address(address: str) -> None:
    with pytest.raises(ValueError, match="not one e-mail address"):
        mailbox(address)


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("ada@example.org", "ada@example.org"),
        ("o'hara+shop@mail.example", "o'hara+shop@mail.example"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@localhost", "ada@localhost"),
    ],
)
def test_one_address(address: str, written: str) -> None:
    assert mailbox(address) == written


@given(st.text())
def test_a_mailbox_can_never_end_a_line_or_a_bracket(text: str) -> None:
    try:
        written = mailbox(text)
    except ValueError:
        return
    assert written.isascii()
    assert not set(written) & set(' <>,;:"()[]\\\r\n\t\0')


@given(st.text())
def test_one_line_has_no_control_characters(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert line == one_line(line)


def test_a_sender_with_a_name_or_without() -> None:
    assert str(sender_of("orders@shop.example")) == "orders@shop.example"
    assert str(sender_of("Der Laden <orders@shop.example>")) == "Der Laden <orders@shop.example>"
    assert sender_of('"Shop, Ltd." <orders@shop.example>').display_name == "Shop, Ltd."
    for wrong in ("Shop", "Shop <orders@shop.example", "Shop <>", "a@b.example, c@d.example"):
        with pytest.raises(ValueError, match=r"address"):
            sender_of(wrong)


def test_a_mail_server() -> None:
    assert mail_server("smtp://mail.example") == MailServer("mail.example", 587, False)
    assert mail_server("smtps://mail.example/") == MailServer("mail.example", 465, True)
    server = mail_server("smtp://ada%40shop:p%2Fw%3A@[::1]:2525")
    assert (server.host, server.port, server.user, server.password) == ("::1", 2525, "ada@shop", "p/w:")
    assert server.is_local
    assert "p/w" not in repr(server)
    assert not mail_server("smtp://mail.example").is_local


@pytest.mark.parametrize(
    "url",
    ["", "mail.example:587", "http://u:s3cret@mail.example", "smtp://", "smtp://u:s3cret@mail.example:x",
     "smtp://u@mail.example", "smtp://u:s3cret@mail.example/path", "smtp://mail.example?tls=1"],
)  # fmt: skip
def test_what_is_no_mail_server_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|password") as refused:
        mail_server(url)
    assert "s3cret" not in str(refused.value)
