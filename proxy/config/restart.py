"""Finds changed settings that take effect only after a restart, by the `Restart` marks on the models."""

from collections.abc import Iterator

from proxy.config.base import Model, restart_mark
from proxy.config.model import Config


def restart_changes(bound: Config, wanted: Config) -> tuple[str, ...]:
    """The settings of `wanted` that a process started with `bound` does not apply, by their names in the file.

    A listener is identified by its address; an added or removed one is named as a whole.
    """
    return tuple(_changes(bound, wanted, "")) + tuple(_listener_changes(bound, wanted))


def _changes(before: Model, after: Model, prefix: str) -> Iterator[str]:
    for name, field in type(before).model_fields.items():
        old, new = getattr(before, name), getattr(after, name)
        mark = restart_mark(field)
        if mark is not None:
            if mark.kept(old) != mark.kept(new):
                yield f"{prefix}{field.alias}"
        elif isinstance(old, Model) and isinstance(new, Model):
            yield from _changes(old, new, f"{prefix}{field.alias}.")


def _listener_changes(bound: Config, wanted: Config) -> Iterator[str]:
    before = {listener.address: listener for listener in bound.listeners}
    after = {listener.address: listener for listener in wanted.listeners}
    for address in {**before, **after}:
        name = f"listeners[{address}]"
        if address in before and address in after:
            yield from _changes(before[address], after[address], f"{name}.")
        else:
            yield name
