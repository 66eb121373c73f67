from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import main
from proxy.cli.options import Source


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["chek"], "check"),
        (["Serve"], "serve"),
        (["cache", "prefech"], "prefetch"),
        (["node", "aply"], "apply"),
        (["check", "--confg", "x"], "--config"),
    ],
)
def test_the_nearest_command_or_option_is_suggested(arguments: list[str], meant: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.output


def test_a_command_that_resembles_none_gets_the_list() -> None:
    result = CliRunner().invoke(main, ["xyzzy"])
    assert result.exit_code == 2
    assert "healthcheck" in result.output


@pytest.mark.parametrize("command", [["check"], ["serve"], ["healthcheck"], ["cache", "stat"], ["node", "status"]])
@pytest.mark.parametrize(("file", "option"), [("my.yaml", "--config"), ("/x/registries.yaml", "--registries")])
def test_a_file_as_an_argument_is_an_error_that_names_the_option(command: list[str], file: str, option: str) -> None:
    result = CliRunner().invoke(main, [*command, file])
    assert result.exit_code == 2
    assert f"write {option} {file}\n" in result.output


@pytest.mark.parametrize("arguments", [["explain", "alpine", "extra"], ["node", "remove", "my.yaml"]])
def test_any_other_argument_too_many_is_an_error(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert f"Unexpected argument {arguments[-1]!r}\n" in result.output


@pytest.mark.parametrize("is_default", [True, False])
def test_only_a_missing_default_file_names_the_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_default: bool
) -> None:
    with pytest.raises(SystemExit):
        Source(tmp_path / "config.yaml", is_registries=False, is_default=is_default).load_or_exit()
    assert ("--config or --registries" in capsys.readouterr().err) is is_default
