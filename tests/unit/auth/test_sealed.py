"""Tokens that we hand out: they come back as they were, or not at all."""

import base64
import json
import secrets
import time
import zlib

import pytest
from aiohttp import ClientSession, web
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.auth.inward.sealed_tokens import (
    OPENED_LIMIT,
    SEALED_LIMIT,
    Binding,
    LoginTooLong,
    Sealed,
    SealingKeys,
    TokenExpired,
    TokenForged,
)
from proxy.oci.login import ANONYMOUS, Login, LoginKind

KEY, OTHER_KEY = "first-key-of-the-tests-0123456789", "other-key-of-the-tests-0123456789"
KEYS = SealingKeys((KEY,))
NOW = 1_800_000_000
LOGIN = Login("robot", LoginKind.PASSWORD, "robot", "s3cret-canary")
PAYLOAD = Sealed(LOGIN, (Binding("icr.io", "prefix/app"),), NOW, NOW + 600)
TOKEN = KEYS.seal(PAYLOAD)

TEXTS = st.text(max_size=40)
LOGINS = st.just(ANONYMOUS) | st.builds(
    Login, TEXTS, st.sampled_from([LoginKind.PASSWORD, LoginKind.IDENTITY_TOKEN]), TEXTS, TEXTS
)
PAYLOADS = st.builds(
    Sealed,
    LOGINS,
    st.lists(st.builds(Binding, TEXTS, TEXTS), max_size=4).map(tuple),
    st.just(NOW),
    st.integers(NOW + 1, 2**40),
)


@given(PAYLOADS)
@settings(max_examples=50)
def test_a_token_comes_back_as_it_was(payload: Sealed) -> None:
    assert KEYS.open(KEYS.seal(payload), NOW) == payload


def test_nothing_of_the_login_can_be_read() -> None:
    content = base64.urlsafe_b64decode(TOKEN)
    assert not [word for word in (b"robot", b"s3cret-canary", b"icr.io", b"app") if word in content]
    assert "s3cret-canary" not in repr(PAYLOAD)


def test_the_same_content_gives_another_token_each_time() -> None:
    assert KEYS.seal(PAYLOAD) != KEYS.seal(PAYLOAD)


def test_every_changed_byte_is_noticed() -> None:
    raw = base64.urlsafe_b64decode(TOKEN)
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1 << (position % 8)
        with pytest.raises(TokenForged):
            KEYS.open(base64.urlsafe_b64encode(changed).decode(), NOW)


def test_every_changed_character_is_noticed() -> None:
    for position, character in enumerate(TOKEN):
        changed = TOKEN[:position] + ("A" if character != "A" else "B") + TOKEN[position + 1 :]
        with pytest.raises(TokenForged):
            KEYS.open(changed, NOW)


def test_every_truncated_token_is_refused() -> None:
    for length in range(len(TOKEN)):
        with pytest.raises(TokenForged):
            KEYS.open(TOKEN[:length], NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "A",
        "A" * 100,
        "A" * (OPENED_LIMIT + 4),
        TOKEN + "=",
        TOKEN + TOKEN,
        f"{TOKEN}\n",
        f" {TOKEN}",
        TOKEN[:40] + "!" + TOKEN[40:],
        TOKEN.replace("-", "+").replace("_", "/") + "+",
        "é" * 200,
        "\0" * 200,
    ],
    ids=range(13),
)
def test_what_is_no_token_of_ours_is_refused(text: str) -> None:
    with pytest.raises(TokenForged):
        KEYS.open(text, NOW)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: base64.urlsafe_b64encode(data).decode()))
def test_no_text_is_taken_for_a_token(text: str) -> None:
    with pytest.raises(TokenForged):
        KEYS.open(text, NOW)


def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(TokenForged):
        SealingKeys((OTHER_KEY,)).open(TOKEN, NOW)


def test_the_first_key_seals_and_all_open() -> None:
    rotated = SealingKeys((OTHER_KEY, KEY))
    assert rotated.open(TOKEN, NOW) == PAYLOAD
    assert SealingKeys((OTHER_KEY,)).open(rotated.seal(PAYLOAD), NOW) == PAYLOAD
    with pytest.raises(TokenForged):
        KEYS.open(rotated.seal(PAYLOAD), NOW)


def test_a_token_is_good_until_it_expires() -> None:
    assert KEYS.open(TOKEN, PAYLOAD.expires_at - 0.5) == PAYLOAD
    with pytest.raises(TokenExpired):
        KEYS.open(TOKEN, PAYLOAD.expires_at)


def test_clocks_may_differ_a_little() -> None:
    assert KEYS.open(TOKEN, NOW - 299) == PAYLOAD
    with pytest.raises(TokenForged, match="clocks"):
        KEYS.open(TOKEN, NOW - 301)


def sealed_by_hand(content: bytes) -> str:
    """A token with our key and any content, as another version of the program might make it."""
    derived = HKDF(SHA256(), 32, None, b"scope-proxy sealed token, version 1").derive(KEY.encode())
    return Fernet(base64.urlsafe_b64encode(derived)).encrypt_at_time(content, NOW).decode()


def content(**changes: object) -> bytes:
    good = {"login": ["password", "u", "u", "s"], "for": [["r", "a"]], "times": [NOW, NOW + 600]}
    return json.dumps({**good, **changes}).encode()


def test_the_format_is_what_it_was() -> None:
    login = Login("u", LoginKind.PASSWORD, "u", "s")
    assert KEYS.open(sealed_by_hand(b"\x01\x00" + content()), NOW) == Sealed(
        login, (Binding("r", "a"),), NOW, NOW + 600
    )


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\x01",
        b"\x02\x00" + content(),
        b"\x01\x02" + content(),
        b"\x01\x00",
        b"\x01\x00[]",
        b"\x01\x00" + b"[" * 5000,
        b"\x01\x01" + content(),
        b"\x01\x01" + zlib.compress(content())[:-5],
        b"\x01\x01" + zlib.compress(b" " * (65 * 1024) + content()),
        b"\x01\x00" + content(login=["password", "u", "u"]),
        b"\x01\x00" + content(login=["password", "u", "u", 1]),
        b"\x01\x00" + content(login=["root", "u", "u", "s"]),
        b"\x01\x00" + content(times=[NOW]),
        b"\x01\x00" + content(times=[NOW, True]),
        b"\x01\x00" + content(times=[NOW, "9"]),
        b"\x01\x00" + content(**{"for": [["r"]]}),
        b"\x01\x00" + content(**{"for": [["r", None]]}),
    ],
    ids=range(18),
)
def test_other_content_is_refused_though_the_key_is_right(plain: bytes) -> None:
    with pytest.raises(TokenForged):
        KEYS.open(sealed_by_hand(plain), NOW)


def long_login(length: int) -> Sealed:
    login = Login("u", LoginKind.PASSWORD, "u", secrets.token_hex(length // 2))
    return Sealed(login, PAYLOAD.bindings, NOW, NOW + 600)


@pytest.mark.parametrize("length", [2000, 5000, 8000])
def test_what_fits_only_when_compressed_is_compressed(length: int) -> None:
    token = KEYS.seal(long_login(length))
    assert len(token) <= SEALED_LIMIT
    assert len(KEYS.open(token, NOW).login.secret) == length


def test_what_fits_is_not_compressed() -> None:
    repeated = Sealed(Login("u", LoginKind.PASSWORD, "u", "ab" * 500), PAYLOAD.bindings, NOW, NOW + 600)
    other = Sealed(Login("u", LoginKind.PASSWORD, "u", secrets.token_hex(500)), PAYLOAD.bindings, NOW, NOW + 600)
    assert len(KEYS.seal(repeated)) == len(KEYS.seal(other))


def test_a_login_that_no_header_can_carry_is_refused_with_the_way_out() -> None:
    payload = long_login(20_000)
    with pytest.raises(LoginTooLong, match="challenge: basic") as refused:
        KEYS.seal(payload)
    assert payload.login.secret[:20] not in str(refused.value)


async def test_the_longest_token_fits_into_a_header_that_a_server_takes() -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=str(len(request.headers["Authorization"])))

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = runner.addresses[0]
        value = "Bearer " + "A" * SEALED_LIMIT
        async with ClientSession() as session:
            url = f"http://127.0.0.1:{address[1]}/"
            async with session.get(url, headers={"Authorization": value}) as response:
                assert (response.status, await response.text()) == (200, str(len(value)))
    finally:
        await runner.cleanup()


def test_a_clock_of_today_is_taken() -> None:
    now = int(time.time())
    payload = Sealed(ANONYMOUS, (), now, now + 60)
    assert KEYS.open(KEYS.seal(payload), now) == payload


def test_people_see_the_users_name() -> None:
    assert (PAYLOAD.name, Sealed(ANONYMOUS, (), NOW, NOW).name) == ("robot", "anonymous")
