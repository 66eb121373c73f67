"""A reload names every setting that only a restart changes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import trustme

from proxy.config.load import Loaded, parse_config
from proxy.runtime.generation import build_generation
from proxy.runtime.reload import ConfigSource, Reloader
from tests.fakes.restart import RELOAD, RESTART, changed

BOUND: dict[str, Any] = {
    "version": 1,
    "listeners": [
        {
            "address": "127.0.0.1:5000",
            "tls": {"certFile": "/tls.crt", "keyFile": "/tls.key", "clientCaFile": "/client.crt"},
            "clients": {"auth": ["certificate", "basic"], "htpasswdFile": "/users"},
        }
    ],
    "registries": {"docker.io": {}},
    "tracing": {"endpoint": "http://127.0.0.1:4318/v1/traces"},
}
NAMED = {
    "listeners[].clients.auth": "listeners[127.0.0.1:5000].clients.auth",
    **{f"listeners[].tls.{key}": "listeners[127.0.0.1:5000].tls" for key in ("certFile", "keyFile", "clientCaFile")},
    **{name: name.partition(".")[0] for name in RESTART if name.startswith(("admin.", "limits.", "tracing."))},
}
"""What a setting is called in the report, where it is not its own name: marked sections are named as a whole."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the files that the configurations name."""
    authority = trustme.CA()
    certificate = authority.issue_cert("proxy.example.com")
    for name in ("tls", "other"):
        certificate.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.crt"))
        certificate.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
    for name in ("ca", "client"):
        authority.cert_pem.write_to_path(str(tmp_path / f"{name}.crt"))
    for name in ("users", "htpasswd"):
        (tmp_path / name).write_bytes(b"node:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)) + b"\n")
    return tmp_path


def parsed(document: Any, directory: Path) -> Loaded:
    """A configuration whose files are in a directory."""
    return parse_config(json.dumps(document).replace('"/', f'"{directory}/'), "config.yaml")


async def reloaded(document: Any, directory: Path) -> Reloader:
    """A process that was started by one configuration and has read another one."""
    loaded = await asyncio.to_thread(parsed, BOUND, directory)
    first = await build_generation(loaded, loaded.config)
    reloader = Reloader(first, loaded.config, ConfigSource(lambda: parsed(document, directory), (), ()))
    await reloader.reload()
    await reloader.close()
    return reloader


@pytest.mark.parametrize("name", [name for name in RESTART if name != "listeners[].address"])
async def test_a_marked_setting_is_named(name: str, directory: Path) -> None:
    document = changed(name, RESTART[name], BOUND)
    if name.endswith(".auth"):  # without `basic` a file of users is refused
        document = changed("listeners[].clients", {"auth": RESTART[name]}, BOUND)
    reloader = await reloaded(document, directory)
    assert reloader.last is not None
    assert reloader.last.problems == ()
    assert reloader.waiting == (NAMED.get(name, name),)


async def test_another_address_is_refused(directory: Path) -> None:
    reloader = await reloaded(changed("listeners[].address", "127.0.0.1:5001", BOUND), directory)
    assert reloader.last is not None
    assert reloader.last.problems == (
        "127.0.0.1:5000 is no longer under listeners: restart scope-proxy to change addresses",
    )


@pytest.mark.parametrize("name", [name for name in RELOAD if name.startswith(("timeouts.", "registries"))])
async def test_any_other_setting_is_in_force(name: str, directory: Path) -> None:
    document = changed(name, RELOAD[name], BOUND)
    reloader = await reloaded(document, directory)
    assert reloader.waiting == ()
    assert reloader.current.loaded.config == (await asyncio.to_thread(parsed, document, directory)).config
