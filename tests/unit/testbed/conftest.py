from collections.abc import AsyncIterator

import aiohttp
import pytest

from proxy.testbed.images import Image, make_image
from tests.unit.testbed.support import REPOSITORY


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session:
        yield session


@pytest.fixture
def image() -> Image:
    return make_image(REPOSITORY, "1")
