import pytest
from click.testing import CliRunner

from proxy.cli.main import main


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
