"""docs/status.md names every field of the JSON, every state of an endpoint and every level."""

import dataclasses
import re
from typing import Any, get_args, get_type_hints

from proxy.server.status.values import Level, Status
from proxy.upstream.endpoints import EndpointState
from tests.docs.pages import text_of

PAGE = "docs/status.md"


def fields(kind: Any) -> set[str]:
    """The names of all fields of a value, inner values among them."""
    if not dataclasses.is_dataclass(kind):
        return set().union(*(fields(inner) for inner in get_args(kind)))
    hints = get_type_hints(kind)
    own = {field.name for field in dataclasses.fields(kind)}
    return own.union(*(fields(hints[name]) for name in own))


def named() -> set[str]:
    return set(re.findall(r"`(\w+)`", text_of(PAGE)))


def test_every_field_is_explained() -> None:
    assert {"at", "health", "saved_bytes", "request_id"} <= fields(Status)
    assert fields(Status) - named() == set()


def test_every_state_and_level_is_explained() -> None:
    assert {*EndpointState, *Level} - named() == set()
