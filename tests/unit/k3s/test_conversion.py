import base64
import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from proxy.config.errors import ConfigError
from proxy.config.load import parse_config
from proxy.config.model import Host
from proxy.k3s.result import SecretFile, Settings, render_config, render_secrets, render_values
from tests.docs.releases import RELEASES, SETTING
from tests.unit.k3s.support import converted, notes_of

ROOT = Path(__file__).parents[3]
REWRITING = """mirrors:
  cp.icr.io:
    endpoint: [https://m.example]
    rewrite: {'^cp/(.+)$': 'local/$1'}
"""
AUTH = "    auth: {username: robot, password: hunter2}\n"


def credentials(hosts: dict[str, Host]) -> dict[str, str | None]:
    return {name: host.credentials[0].password_file for name, host in hosts.items() if host.credentials}


def test_secrets_move_into_files_and_manifests() -> None:
    text = f"{REWRITING}configs:\n  m.example:\n{AUTH}  'n.example:5000':\n    auth: {{identity_token: refresh-me}}\n"
    made = converted(text, Settings(secrets_directory="/run/secrets/"))
    assert made.secrets == (
        SecretFile("m.example", "m-example", "password", "hunter2"),
        SecretFile("n.example:5000", "n-example-5000", "identity-token", "refresh-me"),
    )
    assert made.config.hosts["n.example:5000"].credentials[0].identity_token_file == (
        "/run/secrets/n-example-5000/identity-token"
    )
    for part in (render_config(made.config), render_values(made.config, made.secrets), made.node, repr(made)):
        assert "hunter2" not in part
        assert "refresh-me" not in part
    secrets = list(YAML(typ="safe", pure=True).load_all(render_secrets(made.secrets)))
    assert [secret["metadata"]["name"] for secret in secrets] == ["scope-proxy-m-example", "scope-proxy-n-example-5000"]
    assert base64.b64decode(secrets[0]["data"]["password"]) == b"hunter2"
    assert "r:7:5: changed: the password moved into the Secret scope-proxy-m-example" in notes_of(made, "changed")


def test_the_configuration_is_what_was_meant_and_loads_again() -> None:
    made = converted(f"{REWRITING}configs:\n  m.example:\n{AUTH}", Settings(proxies=("http://127.0.0.1:5500",)))
    again = parse_config(render_config(made.config), "config.yaml").config
    assert again == made.config
    assert [listener.address for listener in again.listeners] == ["127.0.0.1:5500"]
    assert again.registries["cp.icr.io"].rewrites[0].replacement == "local/$1"


def test_values_of_the_chart_hold_the_same_and_name_the_secrets() -> None:
    made = converted(f"{REWRITING}configs:\n  m.example:\n{AUTH}")
    values = YAML(typ="safe", pure=True).load(render_values(made.config, made.secrets))
    assert values["config"] == YAML(typ="safe", pure=True).load(render_config(made.config))
    assert values["secrets"] == {"m-example": {"secretName": "scope-proxy-m-example"}}
    moved = converted(REWRITING, Settings(proxies=("http://127.0.0.1:5500",)))
    values = YAML(typ="safe", pure=True).load(render_values(moved.config, moved.secrets))
    assert values["node"] == {"port": 5500}
    assert "listeners" not in values["config"]


def test_every_host_has_a_secret_of_its_own_with_a_name_that_the_chart_takes() -> None:
    names = [
        "a.b.example",
        "a-b.example",
        f"{'long.' * 12}name.example",
        f"{'long.' * 12}other.example",
        '"*"',
        '"[::1]:5000"',
    ]
    hosts = "".join(f"  {name}:\n    auth: {{username: u, password: p{number}}}\n" for number, name in enumerate(names))
    made = converted(f"{REWRITING}configs:\n{hosts}")
    directories = [secret.directory for secret in made.secrets]
    assert len(set(directories)) == len(names)
    assert directories[0] == "a-b-example"
    chart = json.loads((ROOT / "helm" / "scope-proxy" / "values.schema.json").read_text())
    pattern = chart["properties"]["secrets"]["propertyNames"]["pattern"]
    assert [directory for directory in directories if not re.fullmatch(pattern, directory)] == []


def test_a_host_that_was_pulled_from_directly_becomes_a_registry() -> None:
    made = converted(f"{REWRITING}configs:\n  m.example:\n{AUTH}  n.example:\n    tls: {{ca_file: /ca.pem}}\n")
    assert list(made.config.registries) == ["cp.icr.io", "m.example", "n.example"]
    assert "r:8:3: changed: n.example is added to the registries" in notes_of(made, "changed")
    assert "r:9:5: question: /ca.pem is a file of the node: is it there where the proxy runs?" in notes_of(
        made, "question"
    )


def test_a_host_on_plain_http_was_no_registry() -> None:
    text = f"mirrors: {{a.io: {{endpoint: ['http://m.example:5000']}}}}\nconfigs:\n  'm.example:5000':\n{AUTH}"
    assert list(converted(text).config.registries) == ["a.io"]


def test_credentials_under_the_registrys_name_go_to_its_one_endpoint_and_the_operator_gets_a_warning() -> None:
    made = converted(f"{REWRITING}configs:\n  cp.icr.io:\n{AUTH}")
    assert credentials(made.config.hosts) == {"m.example": "/etc/scope-proxy/secrets/m-example/password"}
    assert "r:6:3: question: it is used for m.example" in notes_of(made, "question")
    assert [secret.host for secret in made.secrets] == ["m.example"]


def test_credentials_go_nowhere_where_several_endpoints_could_be_meant() -> None:
    text = REWRITING.replace("[https://m.example]", "[https://m.example, https://n.example]")
    made = converted(f"{text}configs:\n  cp.icr.io:\n{AUTH}")
    assert list(credentials(made.config.hosts)) == ["cp.icr.io"]
    assert "endpoint's host (m.example, n.example)" in notes_of(made, "question")


def test_credentials_of_a_registry_that_gets_the_request_itself_stay_there() -> None:
    made = converted(f"mirrors: {{a.io: {{endpoint: [m.example]}}}}\nconfigs:\n  a.io:\n{AUTH}")
    assert list(credentials(made.config.hosts)) == ["a.io"]
    assert "these credentials are for a.io itself; m.example gets none" in notes_of(made, "question")


@pytest.mark.parametrize("key", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_credentials_of_docker_hub_find_its_host(key: str) -> None:
    made = converted(f"configs:\n  {key}:\n{AUTH}")
    assert list(credentials(made.config.hosts)) == ["registry-1.docker.io"]
    assert list(made.config.registries) == ["docker.io"]


def test_keys_that_nothing_matches_are_repaired_once() -> None:
    text = f"mirrors:\n  https://Quay.io/:\n    endpoint: [m.example]\nconfigs:\n  HTTPS://m.example/v2:\n{AUTH}"
    made = converted(text)
    assert list(made.config.registries) == ["quay.io", "m.example"]
    assert list(credentials(made.config.hosts)) == ["m.example"]
    assert "r:2:3: question: nothing ever matched the key 'https://Quay.io/'" in notes_of(made, "question")
    both = converted("mirrors:\n  quay.io: {endpoint: [m.example]}\n  Quay.io: {endpoint: [n.example]}\n")
    assert [str(endpoint.address) for endpoint in both.config.registries["quay.io"].endpoints] == [
        "https://m.example/v2",
        "https://quay.io/v2",
    ]
    assert "'Quay.io'" in notes_of(both, "question")


def test_what_k3s_needed_tricks_for_is_reported() -> None:
    text = "mirrors:\n  quay.io:\n    endpoint: ['https://quay.io:443']\n    rewrite: {'^a\\.b/(.*)$': 'c/$1'}\n"
    made = converted(text)
    assert "r:3:16: changed: the port :443, " in notes_of(made, "changed")
    assert "r:4:15: changed: this rule, and the whole mirror with it, never worked on nodes" in notes_of(
        made, "changed"
    )
    assert not made.questions


def test_the_setting_that_ends_the_fallback_is_reported_with_the_releases_that_know_it() -> None:
    [line] = [line for line in notes_of(converted(REWRITING), "info").splitlines() if "cp.icr.io itself" in line]
    assert f"{SETTING}: true" in line
    assert RELEASES in line
    assert "other releases do not support it" in line


def test_overlapping_rules_are_a_question_and_rules_that_change_their_result_are_none() -> None:
    text = "mirrors:\n  docker.io:\n    endpoint: [m.example]\n    rewrite: {'(.*)': 'a/$1'}\n"
    assert not converted(text).questions
    overlapping = converted(text.replace("'a/$1'", "'a/$1', '^x/(.*)': 'y/$1'"))
    assert overlapping.questions == 1
    assert "r:4:14: question: " in notes_of(overlapping, "question")


def test_token_servers_elsewhere_are_reported_and_used() -> None:
    text = f"{REWRITING}configs:\n  m.example:\n{AUTH}"
    assert "realms must name it" in notes_of(converted(text), "info")
    made = converted(text, Settings(realms=(("m.example", "https://auth.example"),)))
    assert made.config.hosts["m.example"].realms == ("https://auth.example",)
    assert "realms" not in notes_of(made, "info")
    with pytest.raises(ConfigError, match=r"--realm other: .* m\.example"):
        converted(text, Settings(realms=(("other", "https://auth.example"),)))


def test_a_file_that_is_converted_already_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"r:2:26: http://127\.0\.0\.1:5000 is this proxy itself"):
        converted("mirrors:\n  docker.io: {endpoint: ['http://127.0.0.1:5000']}\n")
    elsewhere = Settings(proxies=("http://127.0.0.1:5500",))
    assert converted("mirrors:\n  docker.io: {endpoint: ['http://127.0.0.1:5000']}\n", elsewhere).config.registries
