import pytest

from proxy.oci.errors import REASON_LIMIT, Denied
from proxy.oci.login import ANONYMOUS_NAME
from proxy.routing.access import AccessDecision, AccessRules
from proxy.routing.table import RouteTable
from tests.unit.routing.support import loaded

REGISTRIES = """
    icr.io:
      endpoints: [https://art.example]
      rewrites:
        - {pattern: '^cpopen/(.+)$', replacement: 'local/$1'}
    docker.io: {}
"""


class Access:
    """Access rules, the first of which stands on line 9 of `c.yaml`, and pulls that they judge."""

    def __init__(self, *rules: str) -> None:
        access = "access:\n" + "".join(f"  - {rule}\n" for rule in rules) if rules else ""
        source = loaded(REGISTRIES, access)
        self.rules = AccessRules(source.config, source.positions)
        self.table = RouteTable(source.config, source.positions)

    def decision(self, image: str, client: str = ANONYMOUS_NAME) -> AccessDecision:
        registry, _, name = image.partition("/")
        return self.rules.check(self.table.resolve(name, namespace=registry), client)

    def allowed(self, image: str, client: str = ANONYMOUS_NAME) -> bool:
        return self.decision(image, client).allowed

    def denied(self, image: str, client: str = ANONYMOUS_NAME) -> Denied:
        registry, _, name = image.partition("/")
        with pytest.raises(Denied) as raised:
            self.rules.require(self.table.resolve(name, namespace=registry), client)
        return raised.value


def test_without_rules_all_that_is_configured_may_be_pulled() -> None:
    access = Access()
    assert access.decision("icr.io/any/thing") == AccessDecision(allowed=True, place="", text="no access rules")


def test_what_no_rule_matches_is_denied() -> None:
    access = Access("{action: allow, registries: icr.io}")
    assert access.allowed("icr.io/any/thing")
    assert access.decision("docker.io/alpine") == AccessDecision(
        allowed=False, place="c.yaml:8:1", text="no rule allows it"
    )


def test_the_first_rule_that_matches_decides() -> None:
    rules = ("{action: deny, repositories: 'cpopen/secret/**'}", "{action: allow, repositories: 'cpopen/**'}")
    access = Access(*rules)
    assert access.allowed("icr.io/cpopen/public")
    assert not access.allowed("icr.io/cpopen/secret/x")
    assert not access.allowed("icr.io/cpopen/secret")
    turned = Access(*reversed(rules))
    assert turned.allowed("icr.io/cpopen/secret/x")


def test_the_decision_names_the_rule_and_its_place() -> None:
    access = Access(
        "{action: deny, registries: [icr.io, 'x*'], repositories: cpopen/x}", "{action: allow, clients: 'team-*'}"
    )
    assert access.decision("icr.io/cpopen/x") == AccessDecision(
        allowed=False,
        place="c.yaml:9:5",
        text="deny registries: [icr.io, x*], repositories: cpopen/x, clients: *",
    )
    assert access.decision("icr.io/a", "team-a") == AccessDecision(
        allowed=True, place="c.yaml:10:5", text="allow registries: *, repositories: **, clients: team-*"
    )
    assert access.decision("icr.io/local/x").text.endswith("clients: * (as icr.io/cpopen/x)")


@pytest.mark.parametrize(
    ("client", "allowed"),
    [("alice", True), ("team-a", True), ("Alice", False), ("alice2", False), ("anonymous", False), ("", False)],
)
def test_rules_for_clients_are_for_those_only(client: str, *, allowed: bool) -> None:
    assert Access("{action: allow, clients: [alice, 'team-*']}").allowed("icr.io/a", client) is allowed


@pytest.mark.parametrize(
    ("pattern", "image", "allowed"),
    [
        ("cpopen/*", "icr.io/cpopen/a", True),
        ("cpopen/*", "icr.io/cpopen/a/b", False),
        ("cpopen/**", "icr.io/cpopen/a/b", True),
        ("local/**", "icr.io/cpopen/a", False),
        ("cpopen/.", "icr.io/cpopen/a", False),
        ("CPOPEN/**", "icr.io/cpopen/a", False),
        ("library/alpine", "docker.io/alpine", True),
        ("alpine", "docker.io/alpine", False),
    ],
)
def test_allow_looks_at_the_name_that_was_requested_only(pattern: str, image: str, *, allowed: bool) -> None:
    assert Access(f"{{action: allow, repositories: '{pattern}'}}").allowed(image) is allowed


def test_the_refusal_says_who_what_and_where() -> None:
    error = Access("{action: deny, repositories: cpopen/x}", "{action: allow}").denied("icr.io/cpopen/x", "alice")
    assert (error.status, error.code) == (403, "DENIED")
    assert error.reason == "alice may not pull icr.io/cpopen/x: denied by the rule at c.yaml:9:5"
    assert error.detail == {
        "asked": "icr.io/cpopen/x",
        "client": "alice",
        "hint": "scope-proxy explain icr.io/cpopen/x --client alice",
    }


def test_the_refusal_says_so_where_no_rule_allows_it() -> None:
    error = Access("{action: allow, registries: icr.io}").denied("docker.io/alpine")
    assert error.reason == (
        "anonymous may not pull docker.io/library/alpine: no rule of access at c.yaml:8:1 allows it"
    )


@pytest.mark.parametrize("client", ["é" * 300, "a\r\nX-Header: b", "a'; rm -rf '", "x" * 1000])
def test_a_refusal_is_one_short_line_whatever_the_names_are(client: str) -> None:
    error = Access("{action: allow, clients: b}").denied("icr.io/" + "a/" * 120 + "a", client)
    assert len(error.reason) <= REASON_LIMIT
    assert error.reason == error.reason_phrase
    assert "c.yaml:8:1" in error.reason
    assert "\n" not in error.detail["hint"]


def test_a_client_that_is_allowed_is_not_stopped() -> None:
    access = Access("{action: allow, clients: alice}")
    access.rules.require(access.table.resolve("a", namespace="icr.io"), "alice")
    assert access.denied("icr.io/a").reason.startswith("anonymous may not pull")
