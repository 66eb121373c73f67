from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.files import MAX_FILE_SIZE
from proxy.config.load import ConfigError, Loaded, Problem, load_config, parse_config

GOOD = """\
version: 1
registries:
  icr.io:
    endpoints:
      - https://mirror.example.com
    rewrites:
      - {pattern: '^cpopen/(.+)$', replacement: 'local/$1'}
hosts:
  mirror.example.com:
    credentials: {username: robot, passwordFile: /secret}
"""


def problems(text: str | bytes, tmp_path: Path) -> list[str]:
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def found(load: Callable[[], Loaded]) -> tuple[Problem, ...]:
    try:
        load()
    except ConfigError as error:
        return error.problems
    return ()


def test_positions_lead_to_keys_items_and_nearest_parents() -> None:
    positions = parse_config(GOOD, "c.yaml").positions
    assert positions.at("registries", "icr.io") == "c.yaml:3:3"
    assert positions.at("registries", "icr.io", "endpoints", 0) == "c.yaml:5:9"
    assert positions.at("registries", "icr.io", "rewrites", 0) == "c.yaml:7:9"
    assert positions.at("registries", "icr.io", "rewrites", 0, "pattern") == "c.yaml:7:10"
    assert positions.at("registries", "icr.io", "nodeRewrites") == "c.yaml:3:3"
    assert positions.at("hosts", "mirror.example.com", "credentials", 0, "username") == "c.yaml:10:19"
    assert positions.at("log", "level") == "c.yaml:1:1"


def test_a_good_configuration_has_no_notes() -> None:
    loaded = parse_config(GOOD, "c.yaml")
    assert loaded.notes == ()
    assert loaded.config.registries["icr.io"].endpoints[0].url == "https://mirror.example.com"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '1:1: the file is empty: write at least "version: 1"'),
        ("# nothing\n", '1:1: the file is empty: write at least "version: 1"'),
        (b"version: 1\nlog: {level: \xff}\n", "2:14: the file is not UTF-8 text from here on: save it as UTF-8"),
        ("version: 1\n\tlog: {}\n", "2:1: YAML does not allow tabs as indentation: use spaces"),
        ("version: 1\n---\nversion: 1\n", "2:1: a second document begins here: one file holds one document"),
        ("[" * 40 + "]" * 40, "1:33: nested more than 32 deep"),
        ("a: &a [*a]\n", "1:4: aliases contain each other, or are more than 32 deep"),
        ("- version: 1\n", "1:1: expected keys with values, found a list"),
        ("version: 1\nlog: {level: 'info\n", "3:1: the quotes are never closed"),
        ("version: 1\nlog: !secret hunter2\n", "2:6: a tag (!...) is not supported: put the value in quotes"),
        ("version: 1\n? [a]\n: b\n", "2:3: a key must be plain text"),
        ("version: 1\nlog: {level: \x01}\n", "1:1: the file contains a control character, which YAML does not allow"),
        ('version: 1\nlog: {level: "\\d"}\n', "2:16: an unknown escape in double quotes: use single quotes"),
        ("a: &a hunter2\nb: &a hunter2\n", "2:4: an anchor (&) with this name exists already"),
        ("version: 1\n<<: 5\n", "2:5: a merge key (<<) needs an alias of a mapping"),
        ("version: 1\n" + "#" * MAX_FILE_SIZE, "1:1: the file is larger than 1 MiB: is it a configuration?"),
    ],
)
def test_what_is_no_configuration_is_one_clear_error(text: str | bytes, expected: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path)[0].startswith(expected)


def test_a_value_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    (problem,) = problems("version: 1\nlog: !secret hunter2\n", tmp_path)
    assert problem.startswith("2:6: ")


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases make this more than" in problems("\n".join(lines), tmp_path)[0]


def test_missing_files_and_directories_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="this is a directory"):
        load_config(tmp_path)


def test_aliases_and_merge_keys_may_save_writing() -> None:
    text = """\
version: 1
registries:
  docker.io: &mirror
    endpoints: [https://mirror.example.com]
  quay.io: *mirror
  ghcr.io:
    <<: *mirror
    nodeRewrites: true
"""
    registries = parse_config(text, "c.yaml").config.registries
    assert registries["quay.io"] == registries["docker.io"]
    assert registries["ghcr.io"].endpoints == registries["docker.io"].endpoints
    assert registries["ghcr.io"].node_rewrites


def test_words_that_yaml_1_1_would_change_stay_text() -> None:
    text = GOOD.replace("username: robot", "username: yes")
    assert parse_config(text, "c.yaml").config.hosts["mirror.example.com"].credentials[0].username == "yes"


@pytest.mark.parametrize(("written", "ratio"), [("0.1", 0.1), ("0.25", 0.25), ("1", 1.0), ("1e-3", 0.001)])
def test_a_decimal_number_is_read_as_written(written: str, ratio: float) -> None:
    text = f"version: 1\ntracing: {{endpoint: 'http://c.example', sampleRatio: {written}}}\n"
    tracing = parse_config(text, "c.yaml").config.tracing
    assert tracing is not None
    assert tracing.sample_ratio == ratio


@pytest.mark.parametrize("written", [".inf", ".nan", "0x1", "0o1", "-0.1", "1.1", "'0.1x'"])
def test_a_number_in_another_form_or_out_of_bounds_is_an_error(written: str, tmp_path: Path) -> None:
    text = f"version: 1\ntracing: {{endpoint: 'http://c.example', sampleRatio: {written}}}\nworkers: {written}\n"
    assert [problem[:4] for problem in problems(text, tmp_path)] == ["2:54", "3:10"]


def test_a_directive_does_not_turn_words_into_booleans(tmp_path: Path) -> None:
    text = "%YAML 1.1\n---\nversion: 1\nregistries: {a.io: {nodeRewrites: yes}}\n"
    assert problems(text, tmp_path) == ["4:35: write true or false, without quotes"]


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_config_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    assert all(problem.message for problem in found(lambda: load_config(path)))


WORDS = [
    "version: 1\n",
    "registries:\n",
    "  docker.io:",
    " {",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\n",
    "  ",
    "&a ",
    "*a",
    "<<: ",
]
WORDS += [
    "hosts:\n",
    "credentials: ",
    "password: ",
    "'",
    '"',
    "#",
    "|",
    ">",
    "!t ",
    "? ",
    "%YAML 1.1\n",
    "---\n",
    "...\n",
]
WORDS += [
    "1",
    "true",
    "~",
    "\\",
    "\\UFFFFFFFF",
    ",",
    "\t",
    "rewrites:\n",
    "pattern: (",
    "%TAG ! x\n",
    "\u2028",
    "@",
    "`",
]


@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join))
def test_no_yaml_raises_anything_but_a_config_error(text: str) -> None:
    assert all(problem.position.line >= 1 for problem in found(lambda: parse_config(text, "f")))
