"""What all tests share: a blocking call of ours in the event loop fails the test that runs into it."""

import inspect
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

# A deadline per example is a timing threshold: a busy machine would fail tests that are right.
settings.register_profile("proxy", deadline=None)
settings.load_profile("proxy")


@pytest.fixture(autouse=True)
def no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Raise BlockingError where code of `proxy` blocks the event loop, by itself or in a library that it calls.

    Only calls with a frame of `proxy` on the stack count, so tests may write their files and pytest may import.
    """
    if not inspect.iscoroutinefunction(getattr(request, "function", None)):
        yield None
        return
    with blockbuster_ctx("proxy") as detector:
        yield detector
