"""Which section of the model a key path leads into."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from proxy.config.base import Model
from proxy.config.model import Config
from proxy.config.positions import KeyPath


def section_at(path: KeyPath) -> type[Model] | None:
    """The section that a path leads to; None if it leads elsewhere."""
    section: type[Model] = Config
    steps: Iterator[str | int] = iter(path)
    for step in steps:
        annotation = settings(section).get(str(step))
        inner = None if annotation is None else section_in(annotation)
        if inner is None:
            return None
        section = inner
        if is_collection(annotation):
            next(steps, None)  # the name or the index of the entry
    return section


def keys_at(path: KeyPath) -> tuple[str, ...]:
    """The keys that a section has, as the file writes them."""
    section = section_at(path)
    return () if section is None else tuple(settings(section))


def settings(section: type[Model]) -> dict[str, Any]:
    """The keys of a section with their annotations."""
    return {field.alias or name: field.annotation for name, field in section.model_fields.items()}


def section_in(annotation: Any) -> type[Model] | None:
    """The section inside of an annotation such as `tuple[Endpoint, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_in(part)) is not None), None)


def is_collection(annotation: Any) -> bool:
    """Whether entries have a name or an index between them and the setting."""
    return get_origin(annotation) in {tuple, dict} or any(
        get_origin(part) in {tuple, dict} for part in get_args(annotation)
    )
