"""Builds every object, once, from the configuration, in the order in which a pull passes through them."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.auth.broker import Broker
from proxy.auth.credentials.chain import CredentialChain
from proxy.auth.credentials.dockerconfig import DockerConfigSource
from proxy.auth.credentials.helper import HelperSource
from proxy.auth.credentials.static import StaticSource
from proxy.config.loaded import Loaded
from proxy.config.model import Config
from proxy.config.secrets import SecretReader
from proxy.pull.blobs import Blobs
from proxy.pull.kinds import Kinds
from proxy.pull.listing import Listings
from proxy.pull.manifests import Manifests
from proxy.routing.table import RouteTable
from proxy.server.handlers import Handler, Pulls
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.session import Sessions, load_tls
from proxy.transport.singleflight import Background
from proxy.upstream.authorized import Authorizer
from proxy.upstream.client import UpstreamClient
from proxy.upstream.endpoints import Endpoints


@asynccontextmanager
async def assembled(loaded: Loaded, environment: Mapping[str, str] | None = None) -> AsyncIterator[Handler]:
    """The handler of a configuration, with all that it needs; closed at the end.

    Raises ValueError for certificates and forward proxies that cannot be used.
    """
    config = loaded.config
    environment = os.environ if environment is None else environment
    tls = await asyncio.to_thread(load_tls, config)
    background = Background()
    async with Sessions(config, tls, ForwardProxies.from_environment(environment)) as sessions:
        try:
            broker = Broker(config, sessions, background)
            authorizer = Authorizer(broker, _credentials(config, background, environment))
            client = UpstreamClient(sessions, authorizer, Endpoints())
            yield Handler(_pulls(loaded, client))
        finally:
            await background.close()


def _pulls(loaded: Loaded, client: UpstreamClient) -> Pulls:
    timeouts, kinds = loaded.config.timeouts, Kinds()
    return Pulls(
        routes=RouteTable(loaded.config, loaded.positions),
        manifests=Manifests(client, kinds, timeouts),
        blobs=Blobs(client, kinds, timeouts),
        listings=Listings(client, timeouts),
    )


def _credentials(config: Config, background: Background, environment: Mapping[str, str]) -> CredentialChain:
    helpers = HelperSource(background)
    listed = (item for host in config.hosts.values() for item in host.credentials)
    named = [item.docker_config_file for item in listed if item.docker_config_file is not None]
    files = {path: DockerConfigSource(Path(path), helpers) for path in (*named, *config.docker_config_files)}
    static = StaticSource(config, SecretReader(environment), helpers, files)
    return CredentialChain((static, *(files[path] for path in config.docker_config_files)))
