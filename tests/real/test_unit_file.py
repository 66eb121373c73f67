"""The unit file is one that systemd takes, and it leaves the program little."""

import configparser
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cli.options import EXIT_CONFIG, EXIT_START
from proxy.config.model import Timeouts
from tests.real.processes import run, scratch
from tests.real.programs import require
from tests.real.proxy_process import PROJECT_ROOT

UNIT = PROJECT_ROOT / "config" / "scope-proxy.service"
INSTALLED = "/usr/local/bin/scope-proxy"
"""Where the documented installation puts the program."""
PROGRAM = Path(sys.executable).with_name("scope-proxy")
MOST_EXPOSED = 20
"""On systemd's scale to 100."""


@pytest.fixture
def unit() -> Iterator[Path]:
    """The unit with the program as it is installed here."""
    require("systemd-analyze")
    with scratch("unit") as directory:
        copy = directory / UNIT.name
        copy.write_text(UNIT.read_text().replace(INSTALLED, str(PROGRAM)))
        yield copy


def test_systemd_takes_it(unit: Path) -> None:
    result = run(["systemd-analyze", "verify", str(unit)])
    assert (result.status, unit.name in result.errors) == (0, False), result.errors


def test_systemd_sees_a_program_that_is_missing(unit: Path) -> None:
    """So the test above can fail."""
    unit.write_text(unit.read_text().replace(str(PROGRAM), f"{PROGRAM}-missing"))
    result = run(["systemd-analyze", "verify", str(unit)])
    assert unit.name in result.errors


def test_the_program_knows_every_command_and_option_of_the_unit() -> None:
    """Whether it runs in the unit's sandbox is what test_systemd.py tests, with a real systemd."""
    commands = re.findall(rf"^Exec\w+={re.escape(INSTALLED)} (.+)$", UNIT.read_text(), re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["serve", "check"]
    for command in commands:
        run([str(PROGRAM), *shlex.split(command), "--help"]).checked()
    assert run([str(PROGRAM), "serve", "--no-such-option", "--help"]).status != 0


def test_it_is_hardened(unit: Path) -> None:
    judged = run(["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(unit)])
    assert judged.status == 0, judged.output


def settings(section: str) -> configparser.SectionProxy:
    """The settings of a section of the unit; of those that stand several times, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # names of systemd keep their case
    parser.read(UNIT)
    return parser[section]


def test_a_stop_has_longer_than_the_program_takes_and_reaches_the_parent_alone() -> None:
    service = settings("Service")
    assert int(service["TimeoutStopSec"]) > Timeouts().shutdown_grace
    assert service["KillMode"] == "mixed"


def test_only_what_may_pass_by_itself_is_started_again() -> None:
    service = settings("Service")
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("on-failure", str(EXIT_CONFIG))
    assert EXIT_START != EXIT_CONFIG
    assert "ExecStartPre" not in service  # systemd starts it again whatever status such a command ends with
    assert settings("Unit")["StartLimitIntervalSec"] == "0"
