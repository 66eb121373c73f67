"""The main use case: a pull that fails, a pull through the proxy, and the token requests of both."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.config.load import Loaded, load_config
from proxy.runtime.run import running
from proxy.testbed.images import Image, demo_images
from proxy.testbed.node import pull
from proxy.testbed.node_values import NodeLogin, Pull, PullFailed, PullTarget, Step
from proxy.testbed.strict_registry import StrictRegistry
from proxy.testbed.tokens import Account, Rules

USER = "robot"
PASSWORD = "demo-password"
PULL_TIMEOUT = 30.0
"""Seconds for one pull of the demo."""


@dataclass(frozen=True, slots=True)
class Case:
    """An image as nodes name it, the rule that applies, and what the registry calls it."""

    registry: str
    repository: str
    tag: str
    pattern: str
    replacement: str
    rewritten: str

    @property
    def image(self) -> str:
        """The image as a pod names it."""
        return f"{self.registry}/{self.repository}:{self.tag}"


CASES = (
    Case(
        "cp.icr.io",
        "cp/se-data-center-edge/mini-test",
        "1",
        "^cp/se-data-center-edge/(.+)$",
        "se-next-gen-docker-local/$1",
        "se-next-gen-docker-local/mini-test",
    ),
    Case(
        "icr.io",
        "cpopen/operator",
        "2.7.0",
        "^cpopen/(.+)$",
        "se-next-gen-docker-local/$1",
        "se-next-gen-docker-local/operator",
    ),
    Case(
        "docker.io",
        "rabbitmqoperator/cluster-operator",
        "2.7.0",
        "(.*)",
        "hmirror/$1",
        "hmirror/rabbitmqoperator/cluster-operator",
    ),
)
"""The reported cases: Artifactory's two images and Huawei SWR's one (k3s issue 11191)."""


@dataclass(frozen=True, slots=True)
class RequestedScopes:
    """A request to the token server, and the status of its response."""

    method: str
    scopes: tuple[str, ...]
    status: int


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of one pull: its token requests, and whether it is byte-exact."""

    steps: tuple[Step, ...]
    token_requests: tuple[RequestedScopes, ...]
    error: str
    exact: bool
    received: int


@dataclass(frozen=True, slots=True)
class Stage:
    """The strict registry, and the proxy in front of it."""

    registry: StrictRegistry
    proxy_url: str
    config: str


@asynccontextmanager
async def stage(port: int = 0, images: Sequence[Image] | None = None) -> AsyncIterator[Stage]:
    """Start both on loopback, the registry with these images or else with the demo's; they end with the block."""
    rules = Rules(refuse=404, accounts=(Account(USER, PASSWORD),))
    async with StrictRegistry(demo_images() if images is None else images, rules) as registry:
        text = configuration(registry.url, port)
        loaded = await asyncio.to_thread(_load, text)
        async with running(loaded) as proxy:
            yield Stage(registry, f"http://{proxy.addresses[0]}", text)


def configuration(registry_url: str, port: int) -> str:
    """The proxy's configuration: the rules that stood on the node, and the credentials of the registry."""
    host = registry_url.partition("://")[2]
    entries = "\n".join(
        f"  {case.registry}:\n"
        f"    endpoints: ['{registry_url}']\n"
        f"    rewrites: [{{pattern: '{case.pattern}', replacement: '{case.replacement}'}}]"
        for case in CASES
    )
    return (
        f"version: 1\nlisteners: [{{address: '127.0.0.1:{port}'}}]\nadmin: null\n"
        f"registries:\n{entries}\n"
        f"hosts:\n  '{host}':\n    credentials: {{username: {USER}, password: {PASSWORD}}}\nlog: {{format: text}}\n"
    )


async def pull_directly(here: Stage, case: Case) -> StageResult:
    """Pull as an unpatched node that rewrites by itself, with valid credentials."""
    target = PullTarget(here.registry.url, case.registry, case.repository, case.tag, rewritten=case.rewritten)
    return await _pull(here, case, target, NodeLogin(USER, PASSWORD))


async def pull_through_proxy(here: Stage, case: Case) -> StageResult:
    """Pull as the same node without rewrite and credentials, through the proxy."""
    return await _pull(here, case, PullTarget(here.proxy_url, case.registry, case.repository, case.tag), None)


async def _pull(here: Stage, case: Case, target: PullTarget, login: NodeLogin | None) -> StageResult:
    before = len(here.registry.record.tokens)
    pulled: Pull | None = None
    steps: tuple[Step, ...] = ()
    error = ""
    try:
        async with asyncio.timeout(PULL_TIMEOUT):
            pulled = await pull(target, login)
            steps = tuple(pulled.steps)
    except PullFailed as failure:
        steps, error = tuple(failure.steps), str(failure)
    except TimeoutError:
        error = f"the pull took more than {PULL_TIMEOUT:.0f} s"
    seen = here.registry.record.tokens[before:]
    requests = tuple(RequestedScopes(item.method, item.scopes, item.status) for item in seen)
    exact = pulled is not None and is_exact(case, pulled)
    return StageResult(steps, requests, error, exact, pulled.received if pulled else 0)


def is_exact(case: Case, pulled: Pull) -> bool:
    """Whether every manifest and blob that the node has is byte for byte what the registry holds."""
    image = next(item for item in demo_images() if (item.repository, item.tag) == (case.rewritten, case.tag))
    kept = _kept(image)
    received = {**pulled.manifests, **pulled.blobs}
    right = all(kept.get(digest) == content for digest, content in received.items())
    return right and pulled.digest == image.digest and bool(pulled.blobs)


def _kept(image: Image) -> dict[str, bytes]:
    """All content of an image by digest, that of an index's platforms too."""
    kept = {image.digest: image.manifest, **image.blobs}
    for platform in image.platforms:
        kept |= _kept(platform)
    return kept


def _load(text: str) -> Loaded:
    with tempfile.TemporaryDirectory(prefix="scope-proxy-demo-") as directory:
        path = Path(directory) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path)
