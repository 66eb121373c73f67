"""The ids of requests, of which many are drawn at once: no two processes have one in common."""

import os
import warnings

from proxy.server import app


def drawn_by_a_child(count: int) -> set[str]:
    """The next ids of a child that is forked now."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside the threads of pytest-xdist
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, " ".join(app._request_id() for _ in range(count)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        ids = stream.read().split()
    os.waitpid(child, 0)
    return set(ids)


def test_a_worker_uses_no_id_that_its_parent_has_drawn() -> None:
    count = app._REQUEST_IDS_DRAWN
    before = app._request_id()
    of_child = drawn_by_a_child(count)
    of_parent = {app._request_id() for _ in range(count)}
    assert len(of_child) == len(of_parent) == count
    assert not of_child & {before, *of_parent}
