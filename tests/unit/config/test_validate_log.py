import json

import pytest

from proxy.config.load import parse_config


def notes(log: dict[str, str]) -> list[str]:
    return [str(note) for note in parse_config(json.dumps({"version": 1, "registries": {}, "log": log}), "f").notes]


@pytest.mark.parametrize("access", ["errors", "denied"])
def test_an_access_log_that_the_level_turns_off_is_a_warning(access: str) -> None:
    assert any(
        f"warning: access: {access} logs nothing" in note for note in notes({"level": "error", "access": access})
    )


@pytest.mark.parametrize(
    "log", [{"access": "denied"}, {"level": "debug", "access": "errors"}, {"level": "warning"}, {"access": "none"}]
)
def test_other_values_are_not(log: dict[str, str]) -> None:
    assert [note for note in notes(log) if "access" in note] == []
