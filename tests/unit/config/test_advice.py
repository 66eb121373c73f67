"""Errors and warnings that name what the user wrote and say what to write instead."""

import pytest

from proxy.config.load import ConfigError, parse_config


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "c")
    return [str(problem) for problem in caught.value.problems]


def notes(text: str) -> list[str]:
    return [str(note) for note in parse_config(f"version: 1\n{text}", "c").notes]


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("50GB", "use GiB: 50Gi"),
        ("50G", "use GiB: 50Gi"),
        ("50gb", "use GiB: 50Gi"),
        ("50 GiB", "use GiB: 50Gi"),
        ("50MB", "use MiB: 50Mi"),
        ("500k", "use KiB: 500Ki"),
        ("1.5TB", "use TiB: 1.5Ti"),
    ],
)
def test_a_size_in_another_unit_names_the_unit_to_use(written: str, advice: str) -> None:
    (size,) = problems(f"version: 1\ncache: {{path: /c, maxSize: {written}}}\n")
    assert size.startswith("c:2:28: ")
    assert written in size
    assert advice in size
    (rate,) = problems(f"version: 1\nlimits: {{minReadRate: {written}/s}}\n")
    assert rate.startswith("c:2:23: ")
    assert f"{advice}/s" in rate


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("listeners:\n  - {address: nonsense}\n", "c:3:15"),
        ("listeners:\n  - {address: '0.0.0.0:1', clients: {auth: foo}}\n", "c:3:44"),
        ("access:\n  - {action: allow, registries: [1]}\n", "c:3:34"),
    ],
)
def test_an_invalid_only_item_of_a_list_is_one_error(body: str, place: str) -> None:
    (problem,) = problems(f"version: 1\n{body}")
    assert problem.startswith(place)
    assert "at least" not in problem


def test_an_empty_list_is_still_an_error() -> None:
    (problem,) = problems("version: 1\nlisteners: []\n")
    assert "at least 1" in problem


@pytest.mark.parametrize("text", ["mirrors:\n  icr.io: {}\n", "configs:\n  icr.io: {}\n"])
def test_a_registries_yaml_in_place_of_a_configuration_names_the_option(text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("c:1:1: ")
    assert "use --registries" in problem


@pytest.mark.parametrize("key", ["mirrors", "configs"])
def test_a_key_of_a_registries_yaml_in_a_configuration_names_the_option(key: str) -> None:
    (problem,) = problems(f"version: 1\n{key}: {{}}\n")
    assert problem.startswith("c:2:1: ")
    assert "use --registries" in problem


@pytest.mark.parametrize("key", ["rewrite", "rewrites"])
def test_a_rewrite_map_is_converted_to_the_list_it_would_be(key: str) -> None:
    (problem,) = problems(f"version: 1\nregistries:\n  icr.io:\n    {key}: {{'^a''/(.*)': 'b/$1', '^c$': d}}\n")
    assert problem.startswith("c:4:")
    first, *lines = problem.splitlines()
    assert "a list" in first
    converted = "\n".join(lines)
    assert "- {pattern: '^a''/(.*)', replacement: 'b/$1'}" in converted
    parse_config(f"version: 1\nregistries:\n  icr.io:\n{converted}\n", "c")


def test_upper_case_in_a_replacement_is_a_warning() -> None:
    text = "registries:\n  icr.io:\n    rewrites: [{pattern: '^x/(?P<A>.*)$', replacement: 'IBM/${A}/B'}]\n"
    (note,) = notes(text)
    assert note.startswith("c:4:56: warning: ")
    assert "'IBM/${A}/B'" in note
    assert "write 'ibm/${A}/b'" in note


@pytest.mark.parametrize("written", ["${USER}", "$USER", "robot-${USER}"])
def test_a_variable_in_a_value_is_not_replaced_and_a_warning_says_so(written: str) -> None:
    host = f"credentials: {{username: '{written}', password: p}}"
    (note,) = notes(f"registries: {{a.example: {{}}}}\nhosts:\n  a.example:\n    {host}\n")
    assert note.startswith("c:5:29: warning: ")
    assert written in note
    assert "passwordEnv" in note


def test_a_variable_in_a_password_is_not_repeated() -> None:
    (note,) = notes(
        "registries: {a.example: {}}\nhosts:\n  a.example:\n    credentials: {username: u, password: '${SECRET}'}\n"
    )
    assert "SECRET" not in note
    assert "passwordEnv" in note


def test_a_password_with_a_dollar_sign_is_no_variable() -> None:
    text = "registries: {a.example: {}}\nhosts:\n  a.example:\n    credentials: {username: u, password: 'a$Bc'}\n"
    assert notes(text) == []


def test_a_variable_in_a_value_that_is_wrong_names_the_variable() -> None:
    (problem,) = problems("version: 1\ncache: {path: /c, maxSize: '${SIZE}'}\n")
    assert problem.startswith("c:2:28: ")
    assert "${SIZE}" in problem


@pytest.mark.parametrize(
    ("registries", "host", "meant"),
    [
        ("{docker.io: {}}", "docker.io", "registry-1.docker.io"),
        ("{gcr.io: {endpoints: ['https://mirror.example']}}", "gcr.io", "mirror.example"),
        ("{'registry.example': {}}", "registri.example", "registry.example"),
        ("{icr.io: {}}", "gcr.example", "icr.io"),
        ("{icr.io: {endpoints: ['https://icr.io:8443']}}", "icr.io:9443", "icr.io:8443"),
    ],
)
def test_credentials_under_the_wrong_host_name_the_configured_one(registries: str, host: str, meant: str) -> None:
    (note,) = notes(f"registries: {registries}\nhosts:\n  '{host}': {{credentials: {{username: u, password: p}}}}\n")
    assert note.startswith("c:4:3: warning: ")
    assert f"write {meant}" in note


def test_a_host_written_as_a_url_names_the_host() -> None:
    (problem,) = problems("version: 1\nhosts:\n  'https://icr.io/v2': {}\n")
    assert problem.startswith("c:3:3: ")
    assert "write icr.io" in problem


def test_a_host_written_as_a_url_with_a_password_is_not_repeated() -> None:
    (problem,) = problems("version: 1\nhosts:\n  'https://u:geheim@icr.io': {}\n")
    assert "geheim" not in problem


@pytest.mark.parametrize("key", ["admin", "cache", "tracing"])
def test_a_key_without_a_value_is_a_warning(key: str) -> None:
    (note,) = notes(f"{key}:\n")
    assert note.startswith("c:2:1: warning: ")
    assert f"{key}: null" in note
    assert notes(f"{key}: null\n") == []


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("registries: {a.example: {endpoints: ['https://${HOST}']}}\n", "c:2:38"),
        ("registries:\n  '${HOST}': {}\n", "c:3:3"),
        ("hosts:\n  '${HOST}:5000': {}\n", "c:3:3"),
        ("access: [{action: allow, registries: '${HOST}'}]\n", "c:2:38"),
        ("access: [{action: deny, repositories: '${HOST}'}]\n", "c:2:39"),
    ],
)
def test_a_variable_where_it_is_an_error_is_one_error_that_says_so(body: str, place: str) -> None:
    (problem,) = problems(f"version: 1\n{body}")
    assert problem.startswith(place)
    assert "${HOST}" in problem
    assert "variables are not replaced" in problem


def test_a_variable_that_makes_a_rule_match_nothing_is_one_warning() -> None:
    (note,) = notes("access: [{action: allow, repositories: '${HOST}/**'}]\n")
    assert "variables are not replaced" in note


def test_the_name_of_a_variable_is_written_without_its_sign() -> None:
    credential = "{username: u, passwordEnv: '${SECRET}'}"
    (note,) = notes(f"registries: {{a.example: {{}}}}\nhosts: {{a.example: {{credentials: {credential}}}}}\n")
    assert "write SECRET" in note


@pytest.mark.parametrize("key", ["listeners", "registries", "log"])
def test_a_section_without_a_value_may_be_removed(key: str) -> None:
    (problem,) = problems(f"version: 1\n{key}:\n")
    assert problem.startswith("c:2:1: ")
    assert f"remove {key!r}" in problem
