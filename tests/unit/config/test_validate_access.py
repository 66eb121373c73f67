import pytest

from proxy.config.checks.access import MAX_PATTERNS
from proxy.config.load import ConfigError, parse_config

REGISTRIES = """version: 1
registries:
  icr.io: {endpoints: [https://a.example/v2/docker.io], rewrites: [{pattern: '^cpopen/(.+)$', replacement: 'local/$1'}]}
  docker.io: {}
"""
USERS = "listeners: [{address: '127.0.0.1:5000', clients: {auth: basic, htpasswdFile: /users}}]\n"
UPSTREAM = "listeners: [{address: '127.0.0.1:5000', clients: {auth: upstream}}]\n"


def notes(*rules: str, rest: str = "") -> list[str]:
    """What is said of rules, the first of which stands on line 6."""
    access = "access:\n" + "".join(f"  - {rule}\n" for rule in rules)
    found = parse_config(f"{REGISTRIES}{access}{rest}", "f").notes
    return [str(note).removeprefix("f:") for note in found]


def problems(*rules: str) -> str:
    with pytest.raises(ConfigError) as raised:
        notes(*rules)
    return str(raised.value)


def test_rules_that_are_well_meant_are_left_alone() -> None:
    rules = (
        "{action: deny, registries: icr.io, repositories: [cpopen/secret/**, local/secret/**, Upstream/x]}",
        "{action: allow, registries: ['*.io'], repositories: [cpopen/**, library/*, '**']}",
        "{action: deny}",
    )
    assert notes(*rules) == []


@pytest.mark.parametrize(
    ("rule", "note"),
    [
        (
            "{action: allow, registries: icr.oi}",
            "6:33: warning: 'icr.oi' matches no configured registry: did you mean icr.io?",
        ),
        (
            "{action: allow, registries: [icr.io, '*.example']}",
            ("6:42: warning: '*.example' matches no configured registry: add it under registries, or leave it out"),
        ),
        (
            "{action: allow, registries: ICR.io}",
            "6:33: warning: 'ICR.io' matches no configured registry: did you mean icr.io?",
        ),
    ],
)
def test_a_registry_that_is_not_configured_is_a_warning(rule: str, note: str) -> None:
    assert notes(rule) == [note]


@pytest.mark.parametrize(
    ("pattern", "advice"),
    [
        ("'corp.example:'", "write a lower-case host or host:port"),
        ("'corp.example:0443'", "write a lower-case host or host:port"),
        ("'https://corp.example'", "write a lower-case host or host:port"),
        ("'corp.example/team'", "write a lower-case host or host:port"),
        ("'[0:0::1]:5000'", "write [::1]:5000"),
    ],
)
def test_a_rule_for_what_no_request_can_name_is_an_error(pattern: str, advice: str) -> None:
    assert f"6:32: {pattern} is not the name of a registry: {advice}" in problems(
        f"{{action: deny, registries: {pattern}}}"
    )


def test_with_an_entry_for_every_registry_all_names_are_configured() -> None:
    registries = "registries: {'*': {endpoints: [https://m.example]}}"
    text = f"version: 1\n{registries}\naccess: [{{action: allow, registries: x.example}}]\n"
    assert parse_config(text, "f").notes == ()


@pytest.mark.parametrize(
    "pattern", ["Cpopen/x", "cpopen/", "/cpopen", "a//b", "cpopen/x:1", "x@sha256:00", "a?", "[ab]", "a b", "''"]
)
def test_a_pattern_that_allows_nothing_is_a_warning(pattern: str) -> None:
    (note,) = notes(f"{{action: allow, repositories: ['{pattern.strip(chr(39))}']}}")
    assert "allows nothing: a repository is a path of lower-case names" in note


@pytest.mark.parametrize(
    "pattern", ["cpopen/", "/cpopen", "a//b", "cpopen/x:1", "x@sha256:00", "a?", "[ab]", "a b", ""]
)
def test_a_pattern_that_denies_nothing_is_an_error(pattern: str) -> None:
    found = problems(f"{{action: deny, repositories: [ok, '{pattern}']}}")
    assert found.startswith("f:6:")
    assert "denies nothing: a repository is a path of lower-case names" in found


def test_a_registry_in_a_repository_pattern_is_a_warning() -> None:
    rule = "{{action: {}, registries: icr.io, repositories: 'icr.io/cpopen/**'}}"
    for action in ("deny", "allow"):
        warning = notes(rule.format(action), "{action: allow, registries: docker.io}")[0]
        assert "icr.io is a registry: write registries: icr.io, and the repository without it" in warning


def test_a_registry_that_begins_names_upstream_may_be_denied() -> None:
    assert notes("{action: deny, repositories: 'docker.io/local/secret'}", "{action: allow}") == []


def test_an_official_image_in_short_is_a_warning_where_it_allows_nothing() -> None:
    (note,) = notes("{action: allow, registries: docker.io, repositories: alpine}")
    assert "write library/alpine" in note
    assert notes("{action: deny, registries: docker.io, repositories: alpine}", "{action: allow}") == []


def test_a_list_that_only_denies_is_a_warning() -> None:
    (note,) = notes("{action: deny, registries: icr.io}")
    assert note.startswith("5:1: warning: these rules deny every pull")
    assert "add an allow rule at the end, {action: allow}" in note


def test_clients_that_nobody_asks_for_are_a_warning() -> None:
    rules = ("{action: allow, clients: alice}", "{action: allow, clients: [bob, 'anon*']}")
    (note,) = notes(*rules)
    assert note.startswith("6:30: warning: this rule never matches: no listener authenticates clients")
    assert notes(*rules, rest=USERS) == []


def test_names_that_only_the_upstream_verifies_are_reported() -> None:
    found = notes("{action: allow, clients: alice}", rest=UPSTREAM)
    assert [note for note in found if "6:30: info: " in note and "do not rely on client names" in note]


@pytest.mark.parametrize(
    ("earlier", "later", "hidden"),
    [
        ("{action: allow}", "{action: deny, registries: icr.io, repositories: 'cpopen/secret/**'}", True),
        ("{action: allow, registries: icr.io}", "{action: deny, registries: docker.io}", False),
        ("{action: allow, registries: '*.io'}", "{action: deny, registries: [docker.io, icr.io]}", True),
        ("{action: allow, registries: docker.io}", "{action: deny, registries: [docker.io, icr.io]}", False),
        ("{action: allow, repositories: 'a/**'}", "{action: deny, repositories: 'a/b/*'}", True),
        ("{action: allow, repositories: 'a/**'}", "{action: deny, repositories: 'a'}", True),
        ("{action: allow, repositories: 'a/*'}", "{action: deny, repositories: 'a/**'}", False),
        ("{action: allow, repositories: 'a/*/*'}", "{action: deny, repositories: 'a/**'}", False),
        ("{action: allow, repositories: 'a/*'}", "{action: deny, repositories: 'a/b*'}", True),
        ("{action: allow, repositories: 'a/b'}", "{action: deny, repositories: 'a/*'}", False),
        ("{action: allow, clients: 'a*'}", "{action: deny, clients: 'alice'}", True),
        ("{action: allow, clients: alice}", "{action: deny}", False),
        ("{action: deny, clients: alice}", "{action: allow, clients: alice}", True),
    ],
)
def test_a_rule_behind_one_that_covers_it_is_a_warning(earlier: str, later: str, *, hidden: bool) -> None:
    found = notes(earlier, later, rest=USERS)
    assert (
        any("7:5: warning: this rule is never used: the rule at f:6:5 comes first" in note for note in found) is hidden
    )


@pytest.mark.parametrize(
    ("rule", "is_reported"),
    [
        ("{action: deny, repositories: a/b/secret}", True),
        ("{action: deny, registries: quay.io, repositories: a/b/secret}", True),
        ("{action: deny, registries: docker.io, repositories: a/b/secret}", False),
        ("{action: deny, registries: quay.io}", False),
        ("{action: allow, repositories: a/b/public}", False),
    ],
)
def test_a_rewrite_that_cannot_be_inverted_is_reported_for_deny_rules(rule: str, *, is_reported: bool) -> None:
    line = "  quay.io: {endpoints: [https://q.example], rewrites: [{pattern: '^a/[bc]/(.+)$', replacement: 'q/$1'}]}"
    text = f"{REGISTRIES}{line}\naccess: [{rule}, {{action: allow}}]\n"
    message = f"the rewrite rule at f:5:{line.index('{pattern') + 1} cannot be inverted"
    assert any(message in str(note) for note in parse_config(text, "f").notes) is is_reported


def test_more_patterns_than_can_be_compared_are_refused() -> None:
    many = ", ".join(f"a{number}" for number in range(MAX_PATTERNS + 1))
    assert f"more than {MAX_PATTERNS} repositories" in problems(f"{{action: allow, repositories: [{many}]}}")
