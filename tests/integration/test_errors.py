"""Every error that a node can get: its code, its status, its shape, its reason phrase."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

import pytest

from proxy.oci import errors
from proxy.runtime.tuning import Tuning
from proxy.testbed.images import Image
from tests.fakes.canaries import Written
from tests.fakes.changes import FlipByte, Reply
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Stall
from tests.fakes.matching import Match, on
from tests.fakes.proxy import LOGIN, NAME, REG, SCOPE, blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.scripted import Fault

NOWHERE = f"sha256:{'0' * 64}"
AUTHORIZED = on("GET").with_header("Authorization").where(lambda call: call.kind != "token")


@dataclass(frozen=True, slots=True)
class Case:
    kind: type[errors.RegistryError]
    status: int
    code: str
    target: Callable[[Image], str] = lambda _image: manifest()
    match: Match = AUTHORIZED
    fault: Fault | None = None
    headers: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    method: str = "GET"


CASES = (
    Case(errors.NameInvalid, 400, "NAME_INVALID", lambda _: f"/v2/Bad/manifests/1?ns={REG}", reason="repository name"),
    Case(errors.DigestInvalid, 400, "DIGEST_INVALID", lambda _: blob("sha256:1"), reason="digest"),
    Case(errors.NameUnknown, 404, "NAME_UNKNOWN", lambda _: f"/v2/{NAME}/tags/list?ns={REG}", fault=Reply(404)),
    Case(errors.ManifestUnknown, 404, "MANIFEST_UNKNOWN", lambda _: manifest("none"), reason="does not have"),
    Case(errors.BlobUnknown, 404, "BLOB_UNKNOWN", lambda _: blob(NOWHERE), reason="does not have"),
    Case(errors.RegistryUnknown, 403, "DENIED", lambda _: manifest(registry="x.example"), reason="not configured"),
    Case(
        errors.Denied,
        403,
        "DENIED",
        fault=Reply(403),
        reason=f"answered 403 for {SCOPE} with the configured credentials",
    ),
    Case(
        errors.RangeInvalid,
        416,
        "RANGE_INVALID",
        lambda image: blob(layer_of(image)[0]),
        headers=(("Range", "bytes=999999-"),),
        reason="outside",
    ),
    Case(errors.Unsupported, 405, "UNSUPPORTED", method="DELETE", reason="only serves pulls"),
    Case(
        errors.TooManyRequests,
        503,
        "TOOMANYREQUESTS",
        fault=Reply(429, headers={"Retry-After": "600"}),
        reason="answered 429",
    ),
    Case(errors.UpstreamUnavailable, 503, "UNAVAILABLE", fault=Reply(500), reason="answered 500"),
    Case(errors.UpstreamTimeout, 504, "UNAVAILABLE", reason="in time"),
    Case(errors.UpstreamInvalid, 502, "MANIFEST_INVALID", fault=Reply(200, b"<html>"), reason="no manifest"),
    Case(
        errors.UpstreamDigestInvalid,
        502,
        "DIGEST_INVALID",
        lambda image: blob(layer_of(image)[0]),
        fault=FlipByte(),
        reason="does not match",
    ),
)


@pytest.fixture
async def node(registry: ScriptedRegistry, budgets: Mapping[str, str]) -> AsyncIterator[NodeClient]:
    async with started(settings([registry.url], login=LOGIN, timeouts=budgets)) as proxy:
        yield proxy.node


@pytest.mark.short_budgets
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.__name__)
async def test_an_error_has_its_code_status_and_reason(
    node: NodeClient, registry: ScriptedRegistry, image: Image, case: Case, never: Stall
) -> None:
    fault = never if case.kind is errors.UpstreamTimeout else case.fault
    if fault is not None:
        registry.script(case.match, fault)
    got = await node.send(case.method, case.target(image), *case.headers)
    assert (got.status, got.code) == (case.status, case.code) == (case.kind.status, case.kind.code)
    assert case.reason in got.reason
    assert got.header("OCI-Namespace") is None
    if got.status in {404, 502, 503, 504} or case.kind is errors.Denied:
        detail = got.error["detail"]
        assert detail["scope"] == SCOPE
        assert detail["asked"].startswith(f"{REG}/{NAME} ")
        assert detail["upstream"].startswith(registry.url)
        assert detail["hint"] == f"scope-proxy explain {REG}/{NAME}"


def test_the_table_above_has_every_error() -> None:
    # Unauthorized is for listeners that ask who is there.
    assert {case.kind for case in CASES} | {errors.RegistryError, errors.Unauthorized} == set(errors.ALL_ERRORS)


async def test_a_bug_of_ours_is_500_with_the_request_id_that_the_log_has(
    registry: ScriptedRegistry, logs: Written
) -> None:
    def broken(_round: int) -> float:
        raise LookupError("unforeseen")

    registry.script(on(kind="manifest"), Reply(503))
    async with started(settings([registry.url], login=LOGIN), Tuning(pause=broken)) as proxy:
        got = await proxy.node.get(manifest())
    assert (got.status, got.code) == (500, "UNKNOWN")
    assert "unforeseen" not in got.reason + got.body.decode()
    assert any("a bug" in line and "unforeseen" in line for line in logs.lines)
    logs.lines.clear()  # elsewhere such a line fails the test


async def test_long_and_odd_reasons_are_cut_and_made_plain(node: NodeClient, registry: ScriptedRegistry) -> None:
    registry.script(on(kind="manifest"), Reply(403))
    name = "library/" + "long-name/" * 20 + "app"
    got = await node.get(manifest(name=name))
    assert got.status == 403
    assert len(got.reason) == 160
    assert got.reason.endswith("...")
    assert got.error["message"].startswith(got.reason[:-3])


async def test_head_has_the_reason_though_no_body(node: NodeClient, registry: ScriptedRegistry) -> None:
    registry.script(on(kind="manifest"), Cut(BEFORE_HEADERS))
    got = await node.head(manifest())
    assert (got.status, got.body) == (503, b"")
    assert "closed the connection without an answer" in got.reason
    assert int(got.header("Content-Length") or 0) > 0
