import aiohttp
import pytest

from proxy.testbed.answer import Bytes
from proxy.testbed.images import Image
from proxy.testbed.tokens import Rules
from tests.fakes.changes import Redirect, Reply
from tests.fakes.matching import on
from tests.fakes.objectstore import ObjectStore
from tests.fakes.registry import ScriptedRegistry
from tests.unit.testbed.support import REPOSITORY

DATA = Bytes(b"an object")


async def test_a_signed_address_serves_get_and_ranges(client: aiohttp.ClientSession) -> None:
    async with ObjectStore() as store:
        url = store.sign(DATA)
        async with client.get(url) as response:
            assert await response.read() == DATA.data
        async with client.get(url, headers={"Range": "bytes=3-"}) as response:
            assert (response.status, await response.read()) == (206, b"object")


@pytest.mark.parametrize(("signs_head", "status"), [(False, 403), (True, 200)])
async def test_head_is_signed_or_not(client: aiohttp.ClientSession, signs_head: bool, status: int) -> None:
    async with ObjectStore(signs_head=signs_head) as store, client.head(store.sign(DATA)) as response:
        assert response.status == status


@pytest.mark.parametrize(("strict", "status"), [(True, 400), (False, 200)])
async def test_a_second_credential_is_refused(client: aiohttp.ClientSession, strict: bool, status: int) -> None:
    async with ObjectStore(strict=strict) as store:
        async with client.get(store.sign(DATA), headers={"Authorization": "Bearer abc"}) as response:
            assert response.status == status
        assert store.record.all()[0].credential == "bearer"
        assert "abc" not in repr(store.record.all()[0])
        assert "authorization" not in store.record.all()[0].headers


async def test_addresses_expire(client: aiohttp.ClientSession) -> None:
    async with ObjectStore() as store:
        old = store.sign(DATA)
        store.expire_all()
        for url, status in ((old, 403), (store.sign(DATA), 200)):
            async with client.get(url) as response:
                assert response.status == status


async def test_a_registry_redirects_to_it(client: aiohttp.ClientSession, image: Image) -> None:
    async with ObjectStore() as store, ScriptedRegistry([image], Rules(dialect="none")) as registry:
        registry.script(on("GET", "blob"), Redirect(store.signer(registry.library)))
        store.script(on(kind="object").nth(2), Reply(503))
        for digest, blob in image.blobs.items():
            url = f"{registry.url}/v2/{REPOSITORY}/blobs/{digest}"
            async with client.get(url) as response:
                assert response.url.origin() != registry.url
                assert response.status == (503 if len(store.record.all()) == 2 else 200)
                assert response.status == 503 or await response.read() == blob
        assert [entry.status for entry in store.record.all()] == [200, 503]
