"""Building blocks of all sections: the strict base model, durations, sizes and rates with a unit."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from proxy.config.address import Origin, default_scheme
from proxy.rules.image_pattern import ImagePattern

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
MAX_SECONDS = 365 * 86400.0
"""The longest duration; a longer one is a mistake."""
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration(value: object) -> float:
    """Seconds of a duration such as `30s` or `1h30m`; raises ValueError for a bare number or an unknown unit."""
    if not isinstance(value, str) or not _WHOLE.fullmatch(value):
        raise ValueError("a duration needs a unit, such as 500ms, 30s, 5m or 1h")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(value))
    if seconds > MAX_SECONDS:
        raise ValueError("a duration is at most 365d")
    return seconds


def format_duration(seconds: float) -> str:
    """A duration as the configuration would write it, in the largest unit that stays exact."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    return f"{round(seconds * 1000)}ms"


Duration = Annotated[
    float, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str, when_used="json")
]
"""Seconds; written with a unit."""


def _image_pattern(value: object) -> ImagePattern:
    if isinstance(value, ImagePattern):
        return value
    if not isinstance(value, str):
        raise ValueError("a pattern of images is needed, such as docker.io/library/nginx:1.27")  # noqa: TRY004 - pydantic's
    return ImagePattern.parse(value)


KeptImages = Annotated[ImagePattern, PlainValidator(_image_pattern, json_schema_input_type=str), PlainSerializer(str)]
"""A pattern of images."""


_BYTES = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(Ki|Mi|Gi|Ti)")
_OTHER_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?) ?([kmgt])i?b?", re.IGNORECASE)


def parse_size(value: object) -> int:
    """Bytes of a size such as `10Gi`; raises ValueError for a bare number or an unknown unit."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(_size_advice(value) or "a size needs a unit, such as 512Mi, 10Gi or 1Ti")
    return int(float(match[1]) * _BYTES[match[2]])


def _size_advice(value: object, suffix: str = "") -> str | None:
    """What to write instead of a size in decimal or other units; None if it is not a size."""
    text = value.removesuffix(suffix) if isinstance(value, str) else ""
    match = _OTHER_SIZE.fullmatch(text)
    if match is None:
        return None
    unit = f"{match[2].upper()}i"
    return f"{value} has a unit that is not supported: use {unit}B: {match[1]}{unit}{suffix}"


def format_size(size: int) -> str:
    """A size as the configuration would write it, in the largest unit that stays exact."""
    for unit in ("Ti", "Gi", "Mi"):
        if size >= _BYTES[unit] and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size / _BYTES['Ki']:g}Ki"


def readable_size(size: float) -> str:
    """A size for people, in the largest binary unit: `43.0 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < _BYTES["Ki"]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _BYTES["Ki"]
    return f"{size:.1f} TiB"


_RATE = "/s"


def parse_rate(value: object) -> int:
    """Bytes per second of a rate such as `64Ki/s`; raises ValueError for a bare number or an unknown unit."""
    try:
        if isinstance(value, str) and value.endswith(_RATE):
            return parse_size(value.removesuffix(_RATE))
    except ValueError:
        pass
    raise ValueError(_size_advice(value, _RATE) or "a rate needs a unit, such as 16Ki/s or 1Mi/s")


def format_rate(rate: int) -> str:
    """A rate as the configuration would write it."""
    return f"{format_size(rate)}{_RATE}"


Rate = Annotated[int, BeforeValidator(parse_rate), PlainSerializer(format_rate, return_type=str, when_used="json")]
"""Bytes per second; written with a unit."""

Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size, return_type=str, when_used="json")]
"""Bytes; written with a unit."""


Wait = Annotated[Duration, Field(gt=0)]
"""Seconds, more than 0."""

_LISTEN = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]*):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Restart:
    """Marks a setting that a reload does not change: the process keeps the value that it started with.

    The mark of a section applies to all its settings.
    """

    word: str | None = None
    """For a list: only adding or removing this word, or making it the only one, requires a restart."""

    def kept(self, value: object) -> object:
        """The part of the value that only a restart changes."""
        if self.word is None or not isinstance(value, tuple):
            return value
        return self.word in value, value == (self.word,)


def restart_mark(field: FieldInfo) -> Restart | None:
    """The mark of a setting, if it has one."""
    return next((item for item in field.metadata if isinstance(item, Restart)), None)


class Model(BaseModel):
    """Base of all sections: camelCase keys, no unknown keys, immutable."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        hide_input_in_errors=True,  # an input may be a password
        use_attribute_docstrings=True,
    )


def exact_origin(value: str) -> str:
    """The origin (scheme, host and port) that a setting names; raises ValueError for anything else."""
    if "://" not in value and "@" not in value:
        raise ValueError(f"an origin needs its scheme: write {default_scheme(value)}://{value}")
    origin = Origin.parse(value)
    if value.rstrip("/") not in (str(origin), f"{origin}:{origin.port}"):
        raise ValueError(f"an origin is scheme, host and port only: write {origin}")
    return str(origin)


def listen_address(value: str) -> str:
    """`host:port` or `:port`; raises ValueError."""
    match = _LISTEN.fullmatch(value)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError("an address to listen on is host:port, such as 127.0.0.1:5000 or [::1]:5000")
    return value


def as_list(value: object) -> object:
    """A list: a single value becomes a list with one item."""
    return value if isinstance(value, list | tuple) else [value]
