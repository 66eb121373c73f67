import pytest

from proxy.config.load import ConfigError, parse_config


def notes(text: str) -> list[str]:
    found = parse_config(f"version: 1\n{text}", "f").notes
    return [str(note).removeprefix("f:") for note in found]


def registry(rules: str, more: str = "") -> str:
    return f"registries:\n  docker.io:\n    endpoints: [https://m.example]\n    rewrites:\n{rules}{more}"


def test_an_endpoint_path_without_v2_is_a_warning_with_the_prefix_to_write() -> None:
    (note,) = notes("registries: {docker.io: {endpoints: [https://m.example/proj]}}\n")
    assert note.startswith("2:38: warning: the path /proj replaces /v2")
    assert note.endswith("write https://m.example/v2/proj")


def test_an_endpoint_given_twice_is_a_warning() -> None:
    (note,) = notes("registries: {docker.io: {endpoints: [https://m.example, 'https://m.example:443/v2']}}\n")
    assert note == "2:57: warning: https://m.example/v2 is listed twice: remove one"


def test_credentials_over_plain_http_are_a_warning_but_not_on_loopback() -> None:
    text = "registries: {{docker.io: {{endpoints: ['http://{host}:5500']}}}}\nhosts:\n  {host}:5500:\n"
    text += "    credentials: {{username: a, passwordFile: /b}}\n"
    (note,) = notes(text.format(host="m.example"))
    assert "are sent in plain text" in note
    assert notes(text.format(host="127.0.0.1")) == []


@pytest.mark.parametrize(
    ("listener", "endpoint"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("127.0.0.1:5000", "http://localhost:5000/v2/project"),
        ("0.0.0.0:5000", "http://127.0.0.1:5000"),
        ("proxy.example:443", "https://proxy.example"),
    ],
)
def test_an_endpoint_that_is_the_proxy_itself_is_an_error(listener: str, endpoint: str) -> None:
    text = f"listeners: [{{address: '{listener}'}}]\nregistries: {{docker.io: {{endpoints: ['{endpoint}']}}}}\n"
    with pytest.raises(ConfigError, match=r":3:38: http.* is this proxy itself"):
        notes(text)


def test_a_host_that_no_endpoint_uses_is_a_warning() -> None:
    (note,) = notes("registries: {docker.io: {}}\nhosts:\n  docker.io: {}\n")
    assert note.startswith("4:3: warning: no endpoint is on this host")
    assert "registry-1.docker.io" in note


def test_hosts_of_token_servers_and_of_every_name_are_used() -> None:
    text = "registries: {a.example: {}}\nhosts:\n  '*': {}\n  t.example: {}\n"
    assert notes(f"{text}  a.example: {{realms: [https://t.example]}}\n") == []


def test_a_rule_that_changes_its_own_result_is_a_warning_that_names_node_rewrites() -> None:
    rule = "      - {pattern: '(.*)', replacement: 'hmirror/$1'}\n"
    (note,) = notes(registry(rule))
    assert note.startswith("6:9: warning: this rule is not idempotent: library/alpine becomes hmirror/library/alpine")
    assert "hmirror/hmirror/library/alpine" in note
    assert "nodeRewrites: true" in note
    assert notes(registry(rule, "    nodeRewrites: true\n")) == []


NARROW = "      - {pattern: '^strimzi/(.*)$', replacement: 's/$1'}\n"
WIDE = "      - {pattern: '^(.*)$', replacement: 'all/$1'}\n"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (NARROW + WIDE, "7:9: info: 'strimzi/app' matches this rule and the one at f:6:9, which comes first and wins"),
        (
            WIDE + NARROW,
            (
                "7:9: warning: 'strimzi/app' matches this rule and the one at f:6:9, which comes first and wins; "
                "this rule is never used: put the narrower rule first"
            ),
        ),
    ],
)
def test_of_overlapping_rules_the_note_says_which_wins(rules: str, expected: str) -> None:
    assert notes(registry(rules, "    nodeRewrites: true\n")) == [expected]


def test_rules_that_do_not_meet_have_no_notes() -> None:
    assert notes(registry(NARROW + NARROW.replace("strimzi", "rancher"))) == []


def test_rules_of_an_endpoint_are_judged_too() -> None:
    text = "registries:\n  docker.io:\n    endpoints:\n      - url: https://m.example\n        rewrites:\n"
    (note,) = notes(f"{text}          - {{pattern: '^', replacement: 'p/'}}\n")
    assert note.startswith("7:13: warning: ")
    assert "nodeRewrites: true" in note


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("127.0.0.1:5000", "127.0.0.1:6000", False),
        ("127.0.0.1:5000", "0.0.0.0:5000", True),
        ("127.0.0.1:5000", "'[::1]:5000'", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("'[::]:5000'", "':5000'", True),
    ],
)
def test_addresses_clash_where_the_system_would_refuse_them(first: str, second: str, *, clash: bool) -> None:
    text = f"version: 1\nadmin: null\nlisteners: [{{address: {first}}}, {{address: {second}}}]\n"
    try:
        parse_config(text, "f")
        message = ""
    except ConfigError as error:
        message = str(error)
    assert ("is already used" in message) == clash


def test_anonymous_access_beyond_loopback_can_be_accepted() -> None:
    text = "listeners: [{address: '0.0.0.0:5000', clients: {allowAnonymous: true}}]\n"
    assert notes(f"{text}dockerConfigFiles: [/config.json]\n") == []
