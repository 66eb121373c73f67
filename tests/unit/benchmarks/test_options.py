"""The command line of the benchmarks."""

from pathlib import Path

import pytest

from benchmarks.options import Options, parse

WORKLOADS = ("manifest", "small", "hot", "cold-tls")
PEERS = ("scope-proxy", "nginx", "docker-registry")


def options(line: str) -> Options:
    return parse(line.split(), WORKLOADS, PEERS)


def message(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The last line that a wrong command line ends with."""
    with pytest.raises(SystemExit) as ended:
        options(line)
    assert ended.value.code == 2
    return capsys.readouterr().err.strip().rpartition("\n")[2]


def test_all_workloads_and_peers_run_by_default() -> None:
    assert (options("").only, options("").peers) == (list(WORKLOADS), list(PEERS))


@pytest.mark.parametrize("names", ["small,manifest", "small manifest", "small,manifest small"])
def test_names_have_commas_or_spaces_between_them(names: str) -> None:
    assert options(f"--only {names}").only == ["manifest", "small"]


def test_servers_can_be_left_out() -> None:
    assert options("--peers scope-proxy,nginx").peers == ["scope-proxy", "nginx"]


@pytest.mark.parametrize(
    ("line", "rounds"),
    [
        ("", 5),
        ("--quick", 1),
        ("--baseline venv", 9),
        ("--baseline-config file.yaml", 9),
        ("--baseline venv --quick", 1),
        ("--baseline venv --quick --rounds 9", 9),
        ("--baseline venv --rounds 3", 3),
    ],
)
def test_a_baseline_gets_the_rounds_that_a_verdict_needs(line: str, rounds: int) -> None:
    assert options(line).rounds == rounds


def test_a_baseline_is_another_revision_or_another_configuration() -> None:
    assert not options("").has_baseline
    assert options("--baseline venv").baseline == Path("venv")
    assert options("--baseline-config file.yaml").has_baseline


def test_an_unknown_name_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    text = message("--only manifest,warm", capsys)
    assert text.endswith("argument --only: unknown: warm; known are manifest, small, hot, cold-tls")


def test_a_baseline_without_scope_proxy_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert message("--baseline venv --peers nginx", capsys).endswith("compared with scope-proxy: add it to --peers")


@pytest.mark.parametrize("rounds", ["0", "-1", "nine"])
def test_rounds_are_at_least_one(rounds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message(f"--rounds {rounds}", capsys).endswith(f"{rounds} is not a number of at least 1")
