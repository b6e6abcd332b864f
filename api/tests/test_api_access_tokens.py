"""Bearer tokens and the keys that check them."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from sanfran_api.access.credentials import Token
from sanfran_api.access.errors import KeysMissing
from sanfran_api.access.files import WatchedFile
from sanfran_api.access.keys import BadKeys, FetchedKeys, FileKeys, fetch_keys, parse_keys
from sanfran_api.access.tokens import LEEWAY, BadToken, Tokens, parse_secret

SECRET = b"0123456789abcdef0123456789abcdef"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(65537, 2048)


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def rsa_key(key: rsa.RSAPrivateKey = RSA, kid: str = "r1", **more: Any) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


def ec_key(kid: str = "e1", **more: Any) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": kid, **more}


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "vik", "iss": "me", "aud": "sanfran", "exp": time.time() + 60, **more}


def tokens(
    tmp_path: Path, *, secret: bool = True, keys: bool = True, groups: str = "groups"
) -> Tokens:
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    (tmp_path / "keys").write_bytes(key_set(rsa_key(), ec_key()))
    return Tokens(
        secret=WatchedFile("--jwt-secret-file", tmp_path / "secret", parse_secret)
        if secret
        else None,
        keys=FileKeys(WatchedFile("--jwt-jwks", tmp_path / "keys", parse_keys)) if keys else None,
        issuer="me",
        audience="sanfran",
        user_claim="sub",
        groups_claim=groups,
    )


async def accepted(checker: Tokens, text: str) -> bool:
    try:
        await checker.check(Token(text))
    except BadToken:
        return False
    return True


async def test_each_kind_of_signature_is_accepted(tmp_path: Path) -> None:
    checker = tokens(tmp_path)
    for text in (
        jwt.encode(claims(), SECRET, "HS256"),
        jwt.encode(claims(), RSA, "RS256", {"kid": "r1"}),
        jwt.encode(claims(), EC, "ES256", {"kid": "e1"}),
        jwt.encode(claims(), RSA, "RS256"),  # without kid: the only key for it
    ):
        found = await checker.check(Token(text))
        assert found.user == "vik"
        assert found.groups == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": time.time() - LEEWAY - 5},
        {"nbf": time.time() + LEEWAY + 60},
        {"iat": time.time() + LEEWAY + 60},
        {"aud": "another"},
        {"aud": []},
        {"iss": "another"},
        {"iss": ["me"]},
        {"sub": ""},
        {"sub": 7},
        {"sub": "v\nk"},
        {"sub": "v" * 300},
        {"groups": 7},
        {"groups": ["a", 7]},
        {"groups": ["g"] * 501},
        {"exp": "soon"},
        {"exp": 10**400},
    ],
)
async def test_a_claim_that_is_wrong_refuses_the_token(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    text = jwt.api_jws.encode(json.dumps(claims(**wrong)).encode(), SECRET, "HS256")
    assert not await accepted(tokens(tmp_path), text)


@pytest.mark.parametrize("missing", ["exp", "iss", "aud", "sub"])
async def test_a_claim_that_is_missing_refuses_the_token(tmp_path: Path, missing: str) -> None:
    told = claims()
    del told[missing]
    assert not await accepted(tokens(tmp_path), jwt.encode(told, SECRET, "HS256"))


async def test_clocks_may_differ_a_little(tmp_path: Path) -> None:
    checker = tokens(tmp_path)
    late = claims(exp=time.time() - LEEWAY / 2)
    early = claims(nbf=time.time() + LEEWAY / 2)
    assert await accepted(checker, jwt.encode(late, SECRET, "HS256"))
    assert await accepted(checker, jwt.encode(early, SECRET, "HS256"))


@pytest.mark.parametrize(
    ("claim", "told", "groups"),
    [
        ("groups", {"groups": ["a", "b"]}, ("a", "b")),
        ("groups", {"groups": "a"}, ("a",)),
        ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, ("a",)),
        ("realm_access.roles", {"realm_access": "x"}, ()),
        ("groups", {"other": ["a"]}, ()),
    ],
)
async def test_groups_come_from_the_claim_that_is_set(
    tmp_path: Path, claim: str, told: dict[str, Any], groups: tuple[str, ...]
) -> None:
    checker = tokens(tmp_path, groups=claim)
    found = await checker.check(Token(jwt.encode(claims(**told), SECRET, "HS256")))
    assert found.groups == groups


def forged(header: dict[str, Any], key: bytes = b"") -> str:
    """A token that a library would not make."""
    import hashlib
    import hmac

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    body = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims()).encode())}"
    return f"{body}.{part(hmac.digest(key, body.encode(), hashlib.sha256)) if key else ''}"


async def test_no_token_chooses_how_it_is_checked(tmp_path: Path) -> None:
    """Algorithm confusion: a public key as the secret of an HMAC, no signature at all, another key's."""
    checker = tokens(tmp_path)
    public = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    bad = [
        forged({"alg": "HS256", "typ": "JWT"}, public),
        forged({"alg": "HS256", "kid": "r1"}, public),
        forged({"alg": "none"}),
        forged({"alg": "None"}),
        forged({"alg": "HS256"}),
        forged({"alg": "HS256", "crit": ["exp"]}, SECRET),
        forged({"alg": "HS512"}, SECRET),
        forged({"alg": ["HS256"]}, SECRET),
        forged({"alg": "RS256", "kid": "r1"}, SECRET),
        forged({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}}, b"\0\0\0"),
        jwt.encode(claims(), OTHER, "RS256", {"kid": "r1"}),
        jwt.encode(claims(), RSA, "RS256", {"kid": "e1"}),
        jwt.encode(claims(), RSA, "RS512", {"kid": "r1"}),
        jwt.encode(claims(), RSA, "PS256", {"kid": "r1"}),
        jwt.encode(claims(), RSA, "RS256", {"kid": "unknown"}),
        jwt.encode(claims(), SECRET[::-1], "HS256"),
    ]
    for text in bad:
        assert not await accepted(checker, text), text
    assert not await accepted(tokens(tmp_path, secret=False), jwt.encode(claims(), SECRET, "HS256"))
    by_key = jwt.encode(claims(), RSA, "RS256", {"kid": "r1"})
    assert not await accepted(tokens(tmp_path, keys=False), by_key)


@settings(deadline=None, max_examples=50)
@given(st.text(st.characters(codec="ascii")), st.binary(max_size=60), st.binary(max_size=60))
def test_any_text_is_refused_as_a_token_and_breaks_nothing(
    tmp_path_factory: pytest.TempPathFactory, text: str, head: bytes, body: bytes
) -> None:
    made = [base64.urlsafe_b64encode(one).decode().rstrip("=") for one in (head, body)]
    checker = tokens(tmp_path_factory.getbasetemp())
    for one in (text, ".".join([*made, "AAAA"])):
        assert not asyncio.run(accepted(checker, one))


@pytest.mark.parametrize(
    "told",
    [
        rsa_key(use="enc"),
        rsa_key(alg="RS512"),
        rsa_key(key_ops=["encrypt"]),
        {"kty": "oct", "k": "AAAA", "kid": "r1"},
        {"kty": "RSA", "n": "AA", "e": "AQAB"},
        {"kty": "RSA"},
        "key",
        RSAAlgorithm.to_jwk(RSA, as_dict=True),  # a private one
        rsa_key(rsa.generate_private_key(65537, 1024)),
        ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True),
    ],
)
def test_keys_for_other_purposes_are_left_out(told: Any) -> None:
    with pytest.raises(BadKeys, match="no key that works"):
        parse_keys(key_set(told))
    assert len(parse_keys(key_set(told, rsa_key()))) == 1


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=100))
def test_any_key_set_is_read_or_refused_and_nothing_else(content: bytes) -> None:
    with pytest.raises(BadKeys):
        parse_keys(content)


class Issuer:
    """Who publishes keys; may be away."""

    def __init__(self) -> None:
        self.content: bytes | None = key_set(rsa_key())
        self.asked = 0

    def fetch(self, url: str) -> bytes:
        self.asked += 1
        if self.content is None:
            raise OSError("away")
        return self.content


async def test_a_new_key_is_fetched_when_a_token_names_it_but_not_for_every_such_token() -> None:
    issuer, now = Issuer(), 0.0
    async with FetchedKeys("https://x", fetch=issuer.fetch, monotonic=lambda: now) as keys:
        assert await keys.find("r1", "RS256")
        async with keys._fetching:  # and the fetch of the start is over, too
            pass
        issuer.content = key_set(rsa_key(OTHER, "r2"), rsa_key())
        assert await keys.find("r2", "RS256") is None
        asked = issuer.asked
        for _ in range(50):
            assert await keys.find("r2", "RS256") is None
        assert issuer.asked == asked
        now = 31.0
        assert await keys.find("r2", "RS256")
        assert issuer.asked == asked + 1


async def test_while_the_issuer_is_away_the_former_keys_hold() -> None:
    issuer, now = Issuer(), 0.0
    async with FetchedKeys("https://x", fetch=issuer.fetch, monotonic=lambda: now) as keys:
        assert await keys.find("r1", "RS256")
        for content in (None, b"<html>", key_set()):
            issuer.content = content
            now += 31.0
            assert await keys.find("other", "RS256") is None
            assert await keys.find("r1", "RS256")


async def test_without_any_keys_yet_nobody_is_told_that_a_token_is_wrong() -> None:
    issuer = Issuer()
    issuer.content = None
    async with FetchedKeys("https://x", fetch=issuer.fetch) as keys:
        with pytest.raises(KeysMissing):
            await keys.find("r1", "RS256")


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if self.path == "/moved" else 200)
            if self.path == "/moved":
                self.send_header("location", "/keys")
            self.end_headers()
            try:
                self.wfile.write(b"x" * (2 << 20) if self.path == "/large" else key_set(rsa_key()))
            except OSError:
                pass  # the client has had enough

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def test_keys_are_fetched_over_http_with_limits_and_without_redirects(server: str) -> None:
    assert parse_keys(fetch_keys(f"{server}/keys"))
    with pytest.raises(BadKeys, match="more than"):
        fetch_keys(f"{server}/large")
    with pytest.raises(OSError):
        fetch_keys(f"{server}/moved")
    with pytest.raises(OSError):
        fetch_keys("http://127.0.0.1:9/keys")


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 or more work"):
        parse_secret(b"short\n")


def test_a_stop_does_not_wait_for_who_publishes_the_keys() -> None:
    hangs, asked = threading.Event(), threading.Event()

    def fetch(url: str) -> bytes:
        asked.set()
        hangs.wait(60)
        return b""

    async def serve() -> None:
        async with FetchedKeys("https://x", fetch=fetch):
            await asyncio.to_thread(asked.wait, 10)

    began = time.monotonic()
    asyncio.run(serve())
    hangs.set()
    assert time.monotonic() - began < 20
