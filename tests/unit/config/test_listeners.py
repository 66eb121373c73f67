"""What listeners may not say: every dangerous or senseless combination, with what to write."""

import pytest

from proxy.config.load import ConfigError, parse_config

TLS = "tls: {certFile: /c, keyFile: /k}"
MUTUAL = "tls: {certFile: /c, keyFile: /k, clientCaFile: /a}"
BEARER = "challenge: bearer, externalURL: 'https://p.example', tokenKeyFile: /t"
CREDENTIALS = "hosts: {r.example: {credentials: {username: a, passwordFile: /p}}}\n"


def read(listener: str, more: str = "") -> list[str]:
    """What is remarked of a configuration with one listener."""
    text = f"version: 1\nregistries: {{r.example: {{}}}}\nlisteners:\n- {{{listener}}}\n{more}"
    return [str(note).removeprefix("f:") for note in parse_config(text, "f").notes]


def problems(listener: str, more: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(listener, more)
    return [problem.message for problem in caught.value.problems]


@pytest.mark.parametrize(
    "listener",
    [
        "clients: {auth: none}",
        "clients: {auth: basic, htpasswdFile: /h}",
        f"{MUTUAL}, clients: {{auth: certificate, subjects: ['node-*']}}",
        f"{MUTUAL}, clients: {{auth: [certificate, basic], htpasswdFile: /h}}",
        f"{MUTUAL}, clients: {{auth: [basic, certificate], htpasswdFile: /h}}",
        "clients: {auth: upstream}",
        "clients: {auth: upstream, allowAnonymous: true, proofAge: 5s, whenUnreachable: lastProof}",
        f"clients: {{auth: upstream, {BEARER}, tokenLife: 1h}}",
        f"{TLS}, clients: {{auth: none}}",
    ],
)
def test_what_makes_sense_is_taken_without_a_word(listener: str) -> None:
    assert read(f"address: '127.0.0.1:5000', {listener}") == []


@pytest.mark.parametrize(
    ("listener", "said"),
    [
        ("clients: {auth: [none, basic], htpasswdFile: /h}", "none and basic cannot be combined"),
        ("clients: {auth: [upstream, basic], htpasswdFile: /h}", "upstream and basic cannot be combined"),
        (f"{MUTUAL}, clients: {{auth: [certificate, upstream]}}", "certificate and upstream cannot be combined"),
        ("clients: {auth: [none, none]}", "contains a value twice"),
        ("clients: {auth: certificate}", "write tls: {certFile: ..., keyFile: ..., clientCaFile: ...}"),
        (f"{TLS}, clients: {{auth: certificate}}", "write tls: {certFile: ..., keyFile: ..., clientCaFile: ...}"),
        (MUTUAL, "clientCaFile has no effect without auth: certificate: write clients: {auth: certificate}"),
        (
            f"{MUTUAL}, clients: {{auth: basic, htpasswdFile: /h}}",
            "clientCaFile has no effect without auth: certificate",
        ),
        ("clients: {subjects: [node-1]}", "write auth: certificate, or remove them"),
        ("clients: {auth: basic}", "basic needs a file with users: add htpasswdFile"),
        ("clients: {htpasswdFile: /h}", "htpasswdFile has no effect without auth: basic: write auth: basic"),
        (
            "clients: {auth: upstream, htpasswdFile: /h}",
            "htpasswdFile has no effect without auth: basic: write auth: basic",
        ),
        ("clients: {challenge: bearer}", "challenge has no effect without auth: upstream"),
        ("clients: {externalURL: 'https://p.example'}", "externalURL has no effect without auth: upstream"),
        ("clients: {tokenKeyFile: /t}", "tokenKeyFile has no effect without auth: upstream"),
        (
            "clients: {auth: upstream, challenge: bearer, tokenKeyFile: /t}",
            "bearer needs externalURL, the URL at which clients get tokens",
        ),
        (
            "clients: {auth: upstream, challenge: bearer, externalURL: 'https://p.example'}",
            "bearer needs tokenKeyFile, the keys to encrypt tokens",
        ),
    ],
)
def test_what_cannot_be_meant_is_an_error_that_says_what_to_write(listener: str, said: str) -> None:
    (problem,) = problems(f"address: '127.0.0.1:5000', {listener}")
    assert said in problem


def test_all_that_is_wrong_is_said_at_once_and_in_its_place() -> None:
    text = "version: 1\nlisteners:\n- address: 127.0.0.1:5000\n  clients:\n    auth: basic\n    subjects: [a]\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "f")
    assert [str(problem).split(": ")[0] for problem in caught.value.problems] == ["f:5:11", "f:6:15"]


@pytest.mark.parametrize(
    ("clients", "setting"),
    [
        ("auth: basic, htpasswdFile: /h, proofAge: 5s", "proofAge"),
        ("whenUnreachable: lastProof", "whenUnreachable"),
        ("lastProofAge: 1h", "lastProofAge"),
        ("tokenLife: 1h", "tokenLife"),
        ("auth: upstream, tokenLife: 1h", "tokenLife"),
        ("auth: upstream, externalURL: 'https://p.example'", "externalURL"),
        ("auth: basic, htpasswdFile: /h, allowAnonymous: true", "allowAnonymous"),
    ],
)
def test_what_has_no_effect_is_a_warning(clients: str, setting: str) -> None:
    (note,) = read(f"address: '127.0.0.1:5000', clients: {{{clients}}}")
    assert f"warning: {setting} has no effect" in note


@pytest.mark.parametrize("address", ["0.0.0.0:5000", ":5000", "[::]:5000", "10.0.0.1:5000", "proxy.example:5000"])
def test_everybody_may_use_our_credentials_only_if_that_is_written(address: str) -> None:
    (problem,) = problems(f"address: '{address}'", CREDENTIALS)
    assert "everybody who can reach it pulls with them" in problem
    assert read(f"address: '{address}', clients: {{allowAnonymous: true}}", CREDENTIALS) == []
    assert read(f"address: '{address}'") == []


def test_docker_config_files_are_credentials_too() -> None:
    address = "address: '0.0.0.0:5000'"
    assert problems(address, "dockerConfigFiles: [/d]\n") == problems(address, CREDENTIALS)


@pytest.mark.parametrize("address", ["127.0.0.1:5000", "[::1]:5000", "localhost:5000", "127.9.9.9:5000"])
def test_loopback_needs_nothing(address: str) -> None:
    assert read(f"address: '{address}'", CREDENTIALS) == []


@pytest.mark.parametrize(
    "clients",
    ["auth: basic, htpasswdFile: /h", "auth: upstream", f"auth: upstream, {BEARER}"],
)
def test_passwords_in_plain_text_are_a_warning_beyond_loopback(clients: str) -> None:
    (note,) = read(f"address: '0.0.0.0:5000', clients: {{{clients}}}", CREDENTIALS)
    assert "warning: clients send passwords to 0.0.0.0:5000 in plain text: write tls:" in note
    assert read(f"address: '0.0.0.0:5000', {TLS}, clients: {{{clients}}}", CREDENTIALS) == []
    assert read(f"address: '127.0.0.1:5000', clients: {{{clients}}}", CREDENTIALS) == []


def test_clients_with_certificates_need_no_permission_to_use_our_credentials() -> None:
    assert read(f"address: '0.0.0.0:5000', {MUTUAL}, clients: {{auth: certificate}}", CREDENTIALS) == []
