"""Files of clients are open once, and go on with what they remember when the configuration is read again."""

import asyncio
import json
import logging
from pathlib import Path

import bcrypt
import pytest

from proxy.auth.inward.htpasswd import Htpasswd
from proxy.config.load import load_config
from proxy.runtime.client_files import ClientFiles
from proxy.runtime.reload import ConfigSource
from proxy.runtime.run import running
from tests.fakes.canaries import basic
from tests.fakes.client import NodeClient
from tests.fakes.proxy import settings

PASSWORD = "canary-password"
ALICE = ("Authorization", f"Basic {basic('alice', PASSWORD)}")


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(f"alice:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\nbad\n")
    return path


def test_a_file_is_open_once_and_goes_on(users: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = ClientFiles()
    opened = first.open("htpasswdFile", str(users), Htpasswd.open)
    assert first.open("htpasswdFile", str(users), Htpasswd.open) is opened
    second = ClientFiles(first)
    assert list(second.statuses()) == []
    assert second.open("htpasswdFile", str(users), Htpasswd.open) is opened
    [status] = second.statuses()
    assert (status.file, status.count, len(status.problems)) == (str(users), 1, 1)
    assert caplog.text.count("ignored line") == 1


async def test_a_right_password_stays_known_when_the_configuration_is_read_again(
    tmp_path: Path, users: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    file = tmp_path / "config.yaml"
    listener = {"address": "127.0.0.1:0", "clients": {"auth": "basic", "htpasswdFile": str(users)}}
    configuration = settings(["http://127.0.0.1:1"], listeners=[listener])
    file.write_text(json.dumps(configuration))
    origin = ConfigSource(lambda: load_config(file), (), (), watches=False)
    async with running(await asyncio.to_thread(load_config, file), origin=origin) as state:
        [opened] = state.reloader.current.client_files.opened.values()
        node = NodeClient(state.addresses[0], may_be_challenged=True)
        assert (await node.get("/v2/", ALICE)).status == 200
        file.write_text(json.dumps({**configuration, "registries": {"new.example": {}}}))
        await state.reloader.reload()
        assert list(state.reloader.current.loaded.config.registries) == ["new.example"]
        assert (await node.get("/v2/", ALICE)).status == 200
        assert list(state.reloader.current.client_files.opened.values()) == [opened]
    assert caplog.text.count("ignored line") == 1
