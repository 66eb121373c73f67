"""What a test of real parts needs on its machine."""

import importlib.util
import os
import shutil
import socket
from typing import NoReturn

import pytest

from tests.tools.tool import Tool


def require(*names: str, root: bool = False) -> None:
    """Skip the test where a program or root is missing; in CI fail it, because there nothing may go untested."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        not_here(f"not installed: {', '.join(missing)}")
    if root and os.geteuid() != 0:
        not_here("needs root: containerd mounts file systems")


def require_module(name: str) -> None:
    """Skip the test where a Python package is missing; in CI fail it."""
    if importlib.util.find_spec(name) is None:
        not_here(f"not installed: the Python package {name}")


def require_tools(*tools: Tool) -> None:
    """Skip the test where a tool is not built; in CI fail it."""
    missing = [f"{tool.name} {tool.version}" for tool in tools if not tool.path.exists()]
    if missing:
        not_here(f"not built: {', '.join(missing)}: run make tools")


def has_ipv6() -> bool:
    """Whether programs can listen on the loopback address of IPv6; many containers have none."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def not_here(reason: str) -> NoReturn:
    """Skip the test for a reason; in CI fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; with CI=true nothing is skipped: see CONTRIBUTING", pytrace=False)
    pytest.skip(reason)
