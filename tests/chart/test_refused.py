"""Values that cannot work are refused, with words that say what to do; the first line of each file has some of them."""

from pathlib import Path

import pytest

from tests.chart.helm import REFUSED, rendered_by_4, template, values_of

every_file = pytest.mark.parametrize("values", REFUSED, ids=lambda path: path.stem)


def expected(values: Path) -> str:
    """The words of the first line."""
    return values.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def test_there_are_enough_cases() -> None:
    assert len(REFUSED) >= 20


@pytest.mark.slow
@every_file
def test_helm_3_says_what_to_do(values: Path) -> None:
    result = template(values)
    assert result.status != 0
    assert expected(values) in result.errors
    assert "canary" not in result.errors + result.output


@every_file
def test_helm_4_says_what_to_do(values: Path) -> None:
    with pytest.raises(RuntimeError) as refusal:
        rendered_by_4(values_of(values))
    assert expected(values) in str(refusal.value)
    assert "canary" not in str(refusal.value)


def test_everything_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("node: {exposure: hostPort, adminPort: 5000}\nbootstrap: {way: public}\n")
    errors = template(file).errors
    assert [word in errors for word in ("networkPolicy.enabled", "a port of its own", "image.registry")] == [True] * 3
