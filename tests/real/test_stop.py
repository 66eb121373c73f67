"""SIGTERM while a real containerd pulls: the pull is finished, and the program ends well."""

import signal
import threading
from collections.abc import Callable

import pytest

from tests.real.big_image import BigImage
from tests.real.containerd import Node
from tests.real.hosts import write_mirror
from tests.real.images import PROJECT
from tests.real.processes import Process
from tests.real.registry import Registry
from tests.real.through_proxy import RULES, StartProxy, hosts, registries
from tests.real.token_server import TokenServer

pytestmark = pytest.mark.slow

STOPS = 3
ENDED_WITHIN = 60.0  # seconds; the pull is over before
"""More than the grace of the stop."""
EARLY, STEP = 0.05, 0.6
"""Seconds after the start of a pull at which it is stopped: before its first layer, and later in it."""


def test_no_pull_of_containerd_fails_when_the_proxy_stops(
    start_node: Callable[[], Node],
    registry: Registry,
    tokens: TokenServer,
    start_proxy: StartProxy,
    big_image: BigImage,
) -> None:
    image = big_image.reference.replace(f"{PROJECT}/", "icr.io/cpopen/")
    for number in range(STOPS):
        proxy = start_proxy(registries(registry.url), hosts(registry, tokens), timeouts={"drainIdle": "3s"})
        node = start_node()
        for name in RULES:
            write_mirror(node.certs_d, name, [proxy.url], server=proxy.url)
        stopping = threading.Timer(EARLY + number * STEP, stop, (proxy.process,))
        stopping.start()
        node.cri.pull(image)
        stopping.join()
        assert node.ctr.is_unpacked(image)
        assert proxy.process.wait(ENDED_WITHIN) == 0


def stop(process: Process) -> None:
    process.send(signal.SIGTERM)
