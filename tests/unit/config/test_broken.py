# ruff: noqa: E501 - messages stand whole
from pathlib import Path

import pytest

from proxy.config.load import ConfigError, load_config

BROKEN = Path(__file__).parent / "broken"

EXPECTED: dict[str, list[tuple[int, int, str]]] = {
    "any_without_endpoints": [
        (3, 8, 'the registry "*" needs endpoints: without them, clients could send requests to any host'),
    ],
    "bad_durations": [
        (3, 13, "a duration needs a unit, such as 500ms, 30s, 5m or 1h"),
        (4, 9, "a duration needs a unit, such as 500ms, 30s, 5m or 1h"),
        (5, 12, "the value must be greater than 0"),
    ],
    "bad_endpoints": [
        (5, 9, "an endpoint needs its scheme: write https://mirror.example.com"),
        (6, 9, "the scheme must be http or https, not 'ftp'"),
        (7, 9, "the URL must not contain a user name or password: set credentials under hosts"),
        (8, 14, "an endpoint has no query and no fragment: remove everything from the ? or #"),
        (9, 16, "the value must be 'computed' or 'challenge'"),
    ],
    "bad_registry_names": [
        (3, 3, "a registry or host has no scheme and no path: write docker.io"),
        (4, 3, "write quay.io: that is how requests name it"),
        (5, 3, "'ghcr.io' has no value: write {} for the defaults, or remove 'ghcr.io'"),
    ],
    "booleans_as_text": [
        (4, 19, "write true or false, without quotes"),
        (7, 31, "write true or false, without quotes"),
        (8, 21, "the value must be greater than or equal to 2"),
    ],
    "duplicate_key": [
        (5, 3, "duplicate key 'docker.io' (also in line 3): remove one"),
    ],
    "exposed": [
        (
            3,
            14,
            "0.0.0.0:5000 can be reached from other machines, and credentials are configured: everybody who can reach it pulls with them. Listen on 127.0.0.1, or allow it with clients: {allowAnonymous: true}",
        ),
    ],
    "k3s_names": [
        (
            2,
            1,
            "unknown key 'mirrors', as in a registries.yaml of k3s: use --registries for such a file, or write 'registries'",
        ),
        (
            4,
            1,
            "unknown key 'configs', as in a registries.yaml of k3s: use --registries for such a file, or write 'hosts'",
        ),
    ],
    "list_as_password": [
        (7, 19, "expected text, found a list"),
    ],
    "lone_certificate": [
        (5, 14, "an origin is scheme, host and port only: write https://auth.example.com"),
        (6, 5, "certFile and keyFile belong together: set both or neither"),
    ],
    "look_ahead": [
        (
            6,
            19,
            "the pattern uses look-ahead ((?!), which Go's regular expressions (RE2) do not have: write a rule for the exception before this one",
        ),
        (
            7,
            19,
            "the pattern uses a back-reference (\\1), which Go's regular expressions (RE2) do not have: a group cannot be matched again: write its pattern once more",
        ),
    ],
    "lost_groups": [
        (6, 46, "$2 refers to group 2, but the pattern has 1 group: nothing is inserted"),
        (7, 46, '$1x means a group named "1x": write ${1}x'),
        (9, 22, "\\1 is plain text in a Go template: write $1"),
    ],
    "many_at_once": [
        (2, 14, "the value must be 'debug', 'info', 'warning' or 'error'"),
        (7, 19, "the pattern is not a valid Go regular expression (RE2): missing ): ("),
        (10, 37, "$1 refers to group 1, but the pattern has 0 groups: nothing is inserted"),
        (11, 8, 'the registry "*" needs endpoints: without them, clients could send requests to any host'),
    ],
    "missing_space": [
        (5, 36, "unknown key (hidden): is a space missing after the colon?"),
    ],
    "no_version": [
        (1, 1, "version is missing"),
    ],
    "number_as_password": [
        (5, 46, "a password or token must be text: put it in quotes"),
    ],
    "rewrites_as_map": [
        (
            5,
            5,
            "rewrites are a list; the first rule that changes the repository wins. Write:\n    rewrites:\n      - {pattern: '(.*)', replacement: 'hmirror/$1'}",
        ),
    ],
    "same_address": [
        (4, 15, "127.0.0.1:5000 is already used by listeners[0].address: use another port"),
        (6, 12, "127.0.0.1:5000 is already used by listeners[0].address: use another port"),
        (7, 19, "0.0.0.0:5000 is already used by listeners[0].address: use another port"),
    ],
    "star_password": [
        (5, 46, "a plain * refers to an anchor that does not exist: put the value in quotes"),
    ],
    "tab": [
        (3, 1, "YAML does not allow tabs as indentation: use spaces"),
    ],
    "two_documents": [
        (2, 1, "a second document begins here: one file holds one document"),
    ],
    "two_secrets": [
        (
            5,
            5,
            "a credential needs exactly one of password, passwordFile, passwordEnv, identityToken, identityTokenFile, identityTokenEnv, dockerConfigFile and helper",
        ),
    ],
    "unknown_default": [
        (2, 18, "defaultRegistry 'docker.io' is not configured: add it under registries"),
    ],
    "unknown_key": [
        (4, 5, "unknown key 'endpoint': did you mean 'endpoints'?"),
    ],
    "version_2": [
        (1, 10, "the value must be 1"),
    ],
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_problem_is_reported_at_its_place(name: str) -> None:
    path = BROKEN / f"{name}.yaml"
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    expected = [f"{path}:{line}:{column}: {message}" for line, column, message in EXPECTED[name]]
    assert [str(problem) for problem in caught.value.problems] == expected


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_no_message_repeats_a_secret(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(BROKEN / f"{name}.yaml")
    text = f"{caught.value} {caught.value!r}"
    assert "hunter2" not in text
    assert "20231105" not in text


def test_every_broken_file_has_its_expectation() -> None:
    assert {path.stem for path in BROKEN.glob("*.yaml")} == set(EXPECTED)
    assert len(EXPECTED) >= 20
