"""Which settings only a restart changes."""

import itertools
from typing import Any

import pytest

from proxy.config.base import Model, restart_mark
from proxy.config.listener import Clients
from proxy.config.model import Config
from proxy.config.reading.shape import section_in
from proxy.config.restart import restart_changes
from proxy.server.listener.tls import verify_mode
from tests.fakes.restart import BASE, RELOAD, RESTART, by_mark, changed

KINDS = ("none", "basic", "certificate", "upstream")


def config(document: Any) -> Config:
    return Config.model_validate({"version": 1, **document})


def reported(name: str) -> str:
    """The name by which a change of a setting is reported: that of the marked section, or of the listener."""
    if name == "listeners[].address":
        return "listeners[127.0.0.1:5001]"
    if name.startswith("listeners[].tls"):
        return "listeners[127.0.0.1:5000].tls"
    top = name.partition(".")[0]
    return top if top in {"admin", "limits", "tracing"} else name.replace("[]", "[127.0.0.1:5000]")


def test_the_cases_are_all_settings() -> None:
    assert by_mark(restart=True) == set(RESTART)
    assert by_mark(restart=False) == set(RELOAD)


def test_marks_are_where_changes_are_looked_for() -> None:
    """A mark in a list or map other than `listeners` would be overlooked."""

    def marks(section: type[Model]) -> list[str]:
        own = [name for name, field in section.model_fields.items() if restart_mark(field) is not None]
        inner = (section_in(field.annotation) for field in section.model_fields.values())
        return own + [name for found in inner if found is not None for name in marks(found)]

    others = [section_in(Config.model_fields[name].annotation) for name in ("registries", "access", "hosts")]
    assert [name for section in others if section is not None for name in marks(section)] == []


@pytest.mark.parametrize("name", RESTART)
def test_a_marked_setting_is_reported(name: str) -> None:
    assert reported(name) in restart_changes(config(BASE), config(changed(name, RESTART[name])))


@pytest.mark.parametrize("name", RELOAD)
def test_any_other_setting_is_not(name: str) -> None:
    base = {**BASE, "registries": {"docker.io": {}}}
    before, after = config(base), config(changed(name, RELOAD[name], base))
    assert before != after
    assert restart_changes(before, after) == ()


def test_a_listener_is_known_by_its_address_wherever_it_stands() -> None:
    listeners = [{"address": "127.0.0.1:5000"}, {"address": "127.0.0.1:5001"}]
    before, after = config({"listeners": listeners}), config({"listeners": listeners[::-1]})
    assert restart_changes(before, after) == ()
    assert restart_changes(config({"listeners": listeners[:1]}), after) == ("listeners[127.0.0.1:5001]",)


def test_authentication_needs_a_restart_where_tls_asks_for_another_certificate() -> None:
    mark = restart_mark(Clients.model_fields["auth"])
    assert mark is not None
    ways: list[Any] = [way for count in (1, 2, 3) for way in itertools.product(KINDS, repeat=count)]
    for one, other in itertools.product(ways, repeat=2):
        assert (mark.kept(one) == mark.kept(other)) is (verify_mode(one) == verify_mode(other))
