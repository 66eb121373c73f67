"""`scope-proxy doctor` against docker-registry and the strict token server, in all its modes."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.fakes.doctor import Diagnosis, run_and_read
from tests.real.images import PROJECT, named
from tests.real.registry import Registry
from tests.real.strictness import STRICT_MODES, Mode
from tests.real.token_server import PASSWORD, USER, TokenServer

REGISTRY = "cp.icr.io"
IMAGE = f"{REGISTRY}/cp/se-data-center-edge/mini-test:1"
UPSTREAM = f"{PROJECT}/mini-test"
SCOPE = f"repository:{UPSTREAM}:pull"
RULE = {"pattern": "^cp/se-data-center-edge/(.+)$", "replacement": f"{PROJECT}/$1"}


def examined(registry: Registry, tokens: TokenServer, *, password: str = PASSWORD, trusted: bool = True) -> Diagnosis:
    host: Mapping[str, Any] = {
        "credentials": {"username": USER, "password": password},
        "realms": [tokens.url] if trusted else [],
    }
    configuration = {
        "version": 1,
        "registries": {REGISTRY: {"endpoints": [registry.url], "rewrites": [RULE]}},
        "hosts": {registry.address: host},
    }
    return run_and_read(configuration, IMAGE)


@pytest.mark.parametrize("mode", list(Mode), ids=[mode.value for mode in Mode])
def test_the_verdict_is_right_in_every_mode(registry: Registry, tokens: TokenServer, mode: Mode) -> None:
    tokens.mode = mode
    found = examined(registry, tokens)
    assert (found.status, found.failed()) == (0, set())
    strict = mode in STRICT_MODES
    assert found.of("unknown scope").facts == {
        "verdict": "strict" if strict else "tolerant",
        "status": int(mode.value) if strict else 200,
    }
    narrows = mode in (Mode.HARBOR, Mode.TOLERANT)
    assert found.of("push scope").facts["verdict"] == ("narrowed" if narrows else "refused")
    assert found.of("manifest get").facts["digest"] == named(f"{UPSTREAM}:1").manifest.digest
    for check in ("challenge", "realm", "token", "manifest head", "blob range", "clock"):
        assert found.of(check).outcome == "passed", check
    unknown = {scope for scope in tokens.scopes() if "/unknown:" in scope}
    assert tokens.scopes() - unknown == {SCOPE, f"repository:{UPSTREAM}:pull,push"}


def test_an_untrusted_token_server_gets_no_request(registry: Registry, tokens: TokenServer) -> None:
    found = examined(registry, tokens, trusted=False)
    assert (found.status, found.failed()) == (1, {"realm"})
    assert f"realms: [{tokens.url}]" in found.of("realm").advice
    assert tokens.requests == []


def test_a_wrong_password_is_reported(registry: Registry, tokens: TokenServer) -> None:
    found = examined(registry, tokens, password="wrong-password")
    assert (found.status, found.failed()) == (1, {"token"})
    assert found.of("token").facts["status"] == 401
