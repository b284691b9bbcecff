"""The issuer's keys are asked for when it helps, and never more often; what was good stays until there is better."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from issuer import AUDIENCE, ISSUER, NOW, jwk, jwks, token

from peakclip_api.auth import FRESH_SECONDS, Credential, Keys
from peakclip_api.auth.jwks import JwksError
from peakclip_api.auth.signing import LEAST_SECONDS, MOST_BYTES, SigningKeys, Tokens, read_file
from peakclip_api.auth.tokens import TokenError, TokenRules, UnknownSigningKeyError
from peakclip_api.problems import Problem

RULES = TokenRules(ISSUER, AUDIENCE, frozenset({"RS256", "ES256"}), leeway_seconds=5)
FIRST, SECOND = jwks(jwk("ES256")), jwks(jwk("ES256", 2))
CUSTOMER = Credential("t1", "ada", "customer")


class Source:
    """What the issuer publishes, or the error that asking ends in; `held` keeps an answer back."""

    def __init__(self, says: bytes | Exception = FIRST) -> None:
        self.says = says
        self.asked = 0
        self.held: asyncio.Event | None = None

    async def read(self) -> bytes:
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Bench:
    """All of it with one clock that moves when the test says so."""

    def __init__(self, says: bytes | Exception = FIRST) -> None:
        self.now = 0.0
        self.source = Source(says)
        self.signing = SigningKeys(self.source.read, 300, lambda: self.now)
        self.tokens = Tokens(RULES, self.signing, lambda: NOW + self.now)
        self.keys = Keys(None, lambda: self.now, self.tokens)  # a token asks no database

    def kids(self) -> list[str | None]:
        return [key.kid for key in self.signing.keys or ()]

    async def verify(self, text: str) -> Credential:
        return (await self.tokens.verify(text))[0]


async def settle() -> None:
    """Lets every task come as far as it can without waiting."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_keys_are_fetched_when_a_token_needs_them_first() -> None:
    bench = Bench()
    assert bench.signing.keys is None
    assert not bench.signing.current
    assert await bench.verify(token("ES256")) == CUSTOMER
    assert bench.source.asked == 1


async def test_all_who_wait_for_the_issuer_share_one_question() -> None:
    bench = Bench()
    bench.source.held = asyncio.Event()
    waiting = [asyncio.create_task(bench.verify(token("ES256", sub=f"c{n}"))) for n in range(50)]
    await settle()
    waiting[0].cancel()  # one client who leaves takes nobody's answer away
    bench.source.held.set()
    answers = await asyncio.gather(*waiting[1:])
    assert [answer.subject for answer in answers] == [f"c{n}" for n in range(1, 50)]
    assert bench.source.asked == 1


async def test_a_new_key_is_found_by_the_first_token_that_names_it() -> None:
    bench = Bench()
    await bench.verify(token("ES256"))
    bench.source.says, bench.now = SECOND, LEAST_SECONDS
    assert await bench.verify(token("ES256", 2)) == CUSTOMER
    assert bench.source.asked == 2
    with pytest.raises(UnknownSigningKeyError):
        await bench.verify(token("ES256"))  # withdrawn with the same look


async def test_made_up_key_names_do_not_become_requests_to_the_issuer() -> None:
    bench = Bench()
    for number in range(1_000):
        bench.now = number / 50  # 20 s in all
        with pytest.raises(TokenError):
            await bench.verify(token("ES256", header={"kid": f"made-up-{number}"}))
    assert bench.source.asked == 4  # at 0, 5, 10 and 15 s
    assert await bench.verify(token("ES256")) == CUSTOMER


@pytest.mark.parametrize("text", [token("ES256", exp=1), token("ES256", aud="x"), "a.b.c", token("EdDSA")])
async def test_what_is_wrong_by_itself_is_no_reason_to_ask(text: str) -> None:
    bench = Bench()
    await bench.verify(token("ES256"))
    bench.now = LEAST_SECONDS
    with pytest.raises(TokenError):
        await bench.verify(text)
    assert bench.source.asked == 1


@pytest.mark.parametrize(
    "failure",
    [
        aiohttp.ClientConnectionError("no"), TimeoutError(), OSError(2, "No such file"),
        JwksError("it answered 500"), b"<html>", b"{}",
    ],
)  # fmt: skip
async def test_the_last_good_keys_stay_while_the_issuer_is_away(failure: bytes | Exception) -> None:
    bench = Bench()
    await bench.signing.look()
    bench.source.says, bench.now = failure, LEAST_SECONDS
    await bench.signing.look()
    assert bench.source.asked == 2
    assert not bench.signing.current
    assert await bench.verify(token("ES256")) == CUSTOMER
    # Whether this key exists, nobody can say now: that is no 401.
    with pytest.raises(Problem) as caught:
        await bench.verify(token("ES256", 2))
    assert (caught.value.status, caught.value.kind) == (503, "issuer-unavailable")
    assert caught.value.headers["Retry-After"] == "1"
    bench.source.says, bench.now = SECOND, 2 * LEAST_SECONDS
    assert await bench.verify(token("ES256", 2)) == CUSTOMER
    assert bench.signing.current


async def test_without_any_keys_a_token_is_asked_to_come_again() -> None:
    bench = Bench(aiohttp.ClientConnectionError("no"))
    for _ in range(20):
        with pytest.raises(Problem) as caught:
            await bench.verify(token("ES256"))
        assert caught.value.kind == "issuer-unavailable"
    assert bench.source.asked == 1


async def test_an_issuer_that_withdraws_all_keys_is_believed() -> None:
    bench = Bench()
    await bench.signing.look()
    bench.source.says, bench.now = b'{"keys": []}', LEAST_SECONDS
    await bench.signing.look()
    with pytest.raises(UnknownSigningKeyError):
        await bench.verify(token("ES256"))


async def test_an_unforeseen_failure_is_loud_and_the_next_look_is_a_new_one() -> None:
    bench = Bench(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await bench.signing.look()
    bench.source.says, bench.now = FIRST, LEAST_SECONDS
    await settle()
    await bench.signing.look()
    assert bench.kids() == ["ES256-1"]


@pytest.mark.parametrize(("says", "seconds"), [(FIRST, 300), (OSError(2, "away"), LEAST_SECONDS)])
async def test_the_keys_are_looked_at_again_without_any_token(
    says: bytes | Exception, seconds: float
) -> None:
    now, slept, source = 0.0, [], Source(says)

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await SigningKeys(source.read, 300, lambda: now, sleep).run()
    assert slept == [seconds] * 3
    assert source.asked == 3


async def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "jwks.json"
    path.write_bytes(FIRST)
    signing = SigningKeys.of(str(path), lambda: now)
    await signing.look()
    first = signing.keys
    now = LEAST_SECONDS
    await signing.look()
    assert signing.keys is first  # the same text is not parsed again
    path.write_bytes(SECOND)
    now = 2 * LEAST_SECONDS
    await signing.look()
    assert [key.kid for key in signing.keys or ()] == ["ES256-2"]
    path.unlink()
    now = 3 * LEAST_SECONDS
    await signing.look()
    assert [key.kid for key in signing.keys or ()] == ["ES256-2"]
    assert not signing.current


def test_a_file_that_is_no_jwks_by_its_size_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"x" * (MOST_BYTES + 1))
    with pytest.raises(JwksError, match="larger than 262144 bytes"):
        read_file(path)


# -- what is remembered ------------------------------------------------------------------------------------


async def test_a_verified_token_is_remembered_and_then_verified_again() -> None:
    bench = Bench()
    header = f"Bearer {token('ES256')}"
    assert bench.keys.remembered(header) is None
    assert await bench.keys.look_up(header) == CUSTOMER
    bench.now = FRESH_SECONDS - 0.001
    assert bench.keys.remembered(header) == CUSTOMER
    bench.now = FRESH_SECONDS
    assert bench.keys.remembered(header) is None
    bench.source.says = SECOND  # and by then its key may have been withdrawn
    await bench.signing.look()
    with pytest.raises(Problem) as caught:
        await bench.keys.look_up(header)
    assert caught.value.detail == "The token is signed with a key that the issuer does not publish."


async def test_no_token_is_remembered_beyond_its_end() -> None:
    bench = Bench()
    header = f"Bearer {token('ES256', exp=int(NOW) + 3)}"
    await bench.keys.look_up(header)
    bench.now = 7.999  # 3 s and the leeway
    assert bench.keys.remembered(header) == CUSTOMER
    bench.now = 8.0
    assert bench.keys.remembered(header) is None
    with pytest.raises(Problem) as caught:
        await bench.keys.look_up(header)
    assert caught.value.detail == "The token has expired."


async def test_a_refused_token_is_not_remembered() -> None:
    bench = Bench()
    header = f"Bearer {token('ES256', aud='others')}"
    with pytest.raises(Problem) as caught:
        await bench.keys.look_up(header)
    problem = caught.value
    assert (problem.status, problem.kind) == (401, "unauthorized")
    assert problem.detail == "The token is meant for another audience."
    assert problem.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert bench.keys.remembered(header) is None


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer x", "Bearer a.b", "Bearer a.b.c.d", "Basic a.b.c",
               f"Bearer{token('ES256')}", token("ES256"), "Bearer ä.b.c"],
)  # fmt: skip
async def test_what_is_neither_key_nor_token_is_told_what_to_send(header: str | None) -> None:
    bench = Bench()
    with pytest.raises(Problem) as caught:
        await bench.keys.look_up(header)
    assert caught.value.detail == "Send `Authorization: Bearer pk_…`, or a token (JWT) in its place."
    assert caught.value.headers["WWW-Authenticate"] == "Bearer"
    with pytest.raises(Problem) as caught:
        await Keys(None, lambda: 0.0).look_up(header)
    assert caught.value.detail == "Send `Authorization: Bearer pk_…`."


async def test_without_an_issuer_no_token_is_taken() -> None:
    with pytest.raises(Problem) as caught:
        await Keys(None, lambda: 0.0).look_up(f"Bearer {token('ES256')}")
    assert caught.value.status == 401


async def test_the_memory_of_tokens_is_bounded_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = [f"Bearer {token('ES256', sub=f'c{number}')}" for number in range(6)]
    for name, value in (("MOST_REMEMBERED", 3), ("MOST_TOKEN_BYTES", 2.5 * len(headers[0]))):
        bench = Bench()
        with monkeypatch.context() as patch:
            patch.setattr(f"peakclip_api.auth.look_up.{name}", value)
            for header in headers:
                await bench.keys.look_up(header)
                await bench.keys.look_up(header)  # counts once
                assert bench.keys.remembered(header) is not None
        known = [header for header in headers if bench.keys.remembered(header)]
        assert known == headers[3:]
