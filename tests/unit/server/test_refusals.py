"""The last errors that nodes got: what is remembered, and how much."""

import pytest

from proxy.oci.errors import (
    Denied,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    RegistryError,
    Unauthorized,
    UpstreamUnavailable,
)
from proxy.oci.request import parse_request
from proxy.server.listener.framing import Malformed
from proxy.server.listener.held_bodies import Overloaded
from proxy.server.record import RequestRecord
from proxy.server.refusals import ADVICE, CUT, KEPT, TEXT_LIMIT, Refusal, Refusals, advice
from proxy.upstream.errors import CredentialUnreadable, RealmUntrusted, TlsFailed
from tests.unit.routing.support import table

RULES = """
reg.example:
  endpoints: ['https://up.example', {url: 'https://own.example', rewrites: [{pattern: '^a/', replacement: 'other/'}]}]
  rewrites: [{pattern: '^a/', replacement: 'team/'}]
"""


def record(path: str = "a/app/manifests/1", registry: str = "reg.example") -> RequestRecord:
    """A request that has got as far as its route."""
    made = RequestRecord("GET", f"/v2/{path}", "10.0.0.7", "containerd")
    made.pull = parse_request("GET", f"/v2/{path}", [("ns", registry)])
    made.operation = made.pull.operation
    if registry == "reg.example":
        route = table(RULES).resolve(made.pull.name, namespace=registry)
        made.route, made.registry, made.repository, made.upstream = route, registry, route.repository, route.upstream
    return made


def noted(error: RegistryError, of: RequestRecord | None = None) -> tuple[Refusal, ...]:
    refusals = Refusals()
    refusals.note(error, of or record())
    return refusals.newest()


def test_tells_image_rule_scope_and_what_to_do() -> None:
    (found,) = noted(
        Denied("up.example answered 403", detail={"upstream": "https://up.example/v2/team/app/manifests/1"})
    )
    assert (found.image, found.upstream, found.operation) == ("reg.example/a/app:1", "reg.example", "manifest")
    assert found.rule.startswith("rewritten by ^a/ -> team/ (c.yaml:")
    assert found.scope == "repository:team/app:pull"
    assert (found.status, found.code, found.reason) == (403, "DENIED", "up.example answered 403")
    assert (found.address, found.explainable, found.times) == ("10.0.0.7", True, 1)
    assert "credential" in found.advice


def test_the_rule_is_that_of_the_endpoint_that_got_the_request() -> None:
    (found,) = noted(Denied("no", detail={"upstream": "https://own.example/v2/other/app/manifests/1"}))
    assert found.rule.startswith("rewritten by ^a/ -> other/")
    assert found.scope == "repository:other/app:pull"


def test_without_a_route_there_is_the_name_that_was_requested() -> None:
    (found,) = noted(Denied("not configured"), record(registry="no.example"))
    assert (found.image, found.rule, found.scope, found.upstream) == ("no.example/a/app:1", "", "", "")


def test_the_same_again_counts_up_and_comes_first() -> None:
    refusals = Refusals()
    refusals.note(ManifestUnknown("first"), record())
    refusals.note(ManifestUnknown("other"), record("a/app/manifests/2"))
    refusals.note(ManifestUnknown("third"), record())
    newest, older = refusals.newest()
    assert (newest.image, newest.times, newest.reason) == ("reg.example/a/app:1", 2, "third")
    assert newest.first_at <= older.at <= newest.at
    assert older.times == 1


def test_no_more_than_so_many_are_kept() -> None:
    refusals = Refusals()
    for number in range(KEPT + 20):
        refusals.note(ManifestUnknown("no"), record(f"a/app/manifests/{number}"))
    found = refusals.newest()
    assert len(found) == KEPT
    assert found[0].image == f"reg.example/a/app:{KEPT + 19}"
    assert found[-1].image == "reg.example/a/app:20"


def test_what_is_no_request_makes_one_line_whatever_was_sent() -> None:
    refusals = Refusals()
    for number in range(5):
        refusals.note(Malformed("no HTTP"), RequestRecord("GET", f"/{number}", "10.0.0.7", ""))
        refusals.note(Overloaded("too much"), RequestRecord("GET", f"/{number}", "10.0.0.7", ""))
    assert [(found.image, found.times, found.explainable) for found in refusals.newest()] == [("", 5, False)] * 2


def test_a_scanner_pushes_nothing_out() -> None:
    refusals = Refusals()
    refusals.note(Denied("no"), record())
    for number in range(KEPT + 10):
        refusals.note(NameInvalid("no name"), RequestRecord("GET", f"/.git/{number}", "10.0.0.7", ""))
        refusals.note(DigestInvalid("no digest"), RequestRecord("GET", f"/v2/{number}", "10.0.0.7", ""))
    found = refusals.newest()
    assert [(one.image, one.code, one.times) for one in found[:2]] == [
        ("", "DIGEST_INVALID", KEPT + 10),
        ("", "NAME_INVALID", KEPT + 10),
    ]
    assert [one.image for one in found[2:]] == ["reg.example/a/app:1"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CredentialUnreadable("passwordFile: there is no such file"), "No request was sent"),
        (TlsFailed("failed in TLS"), "certificate"),
        (RealmUntrusted("not trusted"), "add the line"),
    ],
)
def test_local_trouble_is_not_said_to_be_the_registrys(error: RegistryError, words: str) -> None:
    (found,) = noted(error)
    assert words in found.advice
    assert "is down" not in found.advice


@pytest.mark.parametrize("path", ["a/app/tags/list", f"a/app/referrers/sha256:{'0' * 64}"])
def test_a_list_that_is_not_there_is_usual(path: str) -> None:
    assert noted(NameUnknown("no"), record(path)) == ()
    assert noted(ManifestUnknown("no"), record(path)) == ()
    assert len(noted(UpstreamUnavailable("down"), record(path))) == 1


def test_a_challenge_is_usual_and_a_refusal_is_not() -> None:
    error = Unauthorized("who?", challenge="Basic")
    assert noted(error) == ()
    wrong = record()
    wrong.has_login = True
    assert [found.status for found in noted(error, wrong)] == [401]


def test_a_body_that_was_cut_is_reported_unless_the_client_left() -> None:
    refusals = Refusals()
    for reason in ("", "client_gone"):
        good = record()
        good.status, good.aborted = 200, reason
        refusals.note_cut(good)
    assert refusals.newest() == ()
    cut = record()
    cut.status, cut.aborted, cut.error = 200, "digest_mismatch", "wrong bytes"
    refusals.note_cut(cut)
    assert [(found.status, found.code, found.reason) for found in refusals.newest()] == [(200, CUT, "wrong bytes")]


def test_texts_are_bounded_printable_and_without_credentials() -> None:
    wild = "\x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}Basic cm9ib3Q6Y2FuYXJ5 https://u:canary@x/?sig=canary " + "x" * 10_000
    made = record()
    made.user = wild
    (found,) = noted(Denied(wild, detail={"upstream": wild, "scope": wild}), made)
    for text in (found.reason, found.url, found.scope, found.client):
        assert len(text) == TEXT_LIMIT
        assert text.isprintable()
        assert "canary" not in text
        assert "cm9ib3Q6" not in text


def test_there_is_advice_for_every_error() -> None:
    kinds = [kind for kind, _ in ADVICE]
    for place, kind in enumerate(kinds):
        assert not [base for base in kinds[:place] if issubclass(kind, base)], f"{kind} is never reached"
    assert advice(RegistryError("x")).startswith("A bug")
