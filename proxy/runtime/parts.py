"""Parts of a running proxy that outlive a configuration: what several generations use is closed by the last of them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Generic, Self, TypeVar

Value = TypeVar("Value")


class SharedPart(Generic[Value]):
    """Something that was opened, and how many hold it."""

    def __init__(self, key: object, value: Value, stack: AsyncExitStack) -> None:
        self.key = key
        self.value = value
        self._stack = stack
        self._holders = 1

    @classmethod
    async def open(cls, key: object, context: AbstractAsyncContextManager[Value]) -> Self:
        """Enter the context; who opens it holds it. Raises what the context raises."""
        stack = AsyncExitStack()
        return cls(key, await stack.enter_async_context(context), stack)

    def hold(self) -> Self:
        """One more holds it."""
        self._holders += 1
        return self

    @property
    def is_held_once(self) -> bool:
        """Whether it closes with its next release."""
        return self._holders == 1

    async def release(self) -> None:
        """One fewer holds it; the last one closes it."""
        self._holders -= 1
        if not self._holders:
            await self._stack.aclose()


async def part_for(
    key: object, current: SharedPart[Value] | None, context: Callable[[], AbstractAsyncContextManager[Value]]
) -> SharedPart[Value]:
    """The current part where nothing has changed that it is made of, held once more; else a new one."""
    if current is not None and current.key == key:
        return current.hold()
    return await SharedPart.open(key, context())
