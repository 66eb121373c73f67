"""What all sections of the configuration are made of."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from proxy.config.address import Origin
from proxy.config.units import Duration

Wait = Annotated[Duration, Field(gt=0)]
"""Seconds, more than none."""

_LISTEN = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]*):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65535


class Model(BaseModel):
    """Base of all sections: camelCase keys, nothing unknown, nothing changes after loading."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        hide_input_in_errors=True,  # an input may be a password
        use_attribute_docstrings=True,
    )


def exact_origin(value: str) -> str:
    """Scheme, host and port, and nothing else; raises ValueError."""
    origin = Origin.parse(value)
    if value.rstrip("/") not in (str(origin), f"{origin}:{origin.port}"):
        raise ValueError(f"only scheme, host and port count here: write {origin}")
    return str(origin)


def listen_address(value: str) -> str:
    """`host:port`, where the host may be left out; raises ValueError."""
    match = _LISTEN.fullmatch(value)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError("an address to listen on is host:port, such as 127.0.0.1:5000 or [::1]:5000")
    return value


def as_list(value: object) -> object:
    """One value stands for a list of one."""
    return value if isinstance(value, list | tuple) else [value]
