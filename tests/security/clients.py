"""A private and a public repository, who may pull which, and what those try who may not."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxy.testbed.images import Image, make_image
from proxy.testbed.tokens import Account, Rules
from tests.cache.serving import cached
from tests.fakes.canaries import IDENTITY_TOKEN, OTHER_PASSWORD, PASSWORD, basic
from tests.fakes.client import NodeClient
from tests.fakes.proxy import blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry

PRIVATE, PUBLIC = "library/app", "library/open"
"""What clients ask for; upstream it is team/app and team/open."""
OWNER = Account("owner", PASSWORD, ("team/app", "team/open"), IDENTITY_TOKEN)
SECOND = Account("second", PASSWORD + "-2", ("team/app",))
GUEST = Account("guest", OTHER_PASSWORD, ("team/open",))
ACCOUNTS = (OWNER, SECOND, GUEST)

Header = tuple[str, str]


def login(account: Account) -> Header:
    """The account's Basic header."""
    return ("Authorization", f"Basic {basic(account.username, account.password)}")


STRANGERS: Mapping[str, tuple[Header, ...]] = {
    "nobody": (),
    "anonymous": (("Authorization", "Basic Og=="),),
    "wrong-password": (login(replace(OWNER, password="canary-wrong")),),
    "unknown-user": (login(Account("mallory", OTHER_PASSWORD)),),
    "other-user": (login(GUEST),),
    "token-of-nobody": (("Authorization", "Bearer canary-forged"),),
}
"""Everybody who may not pull the private repository."""

DIALECTS: Mapping[str, Rules] = {
    "strict": Rules(accounts=ACCOUNTS),
    "tolerant": Rules(accounts=ACCOUNTS, refuse=None),
    "basic": Rules(accounts=ACCOUNTS, dialect="basic"),
}
"""Registries that refuse a token, that give one which is worth nothing, and that know no tokens."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The two images, whose registry, and a node's client in front of the proxy."""

    private: Image
    public: Image
    registry: ScriptedRegistry
    node: NodeClient

    def attempts(self) -> Mapping[str, tuple[str, str, tuple[Header, ...]]]:
        """Every way to ask for something of the private image."""
        digest, _ = layer_of(self.private)
        part = (("Range", "bytes=1-9"),)
        named = self.private.digest
        return {
            "tag": ("GET", manifest(name=PRIVATE), ()),
            "tag-head": ("HEAD", manifest(name=PRIVATE), ()),
            "digest": ("GET", manifest(named, PRIVATE), ()),
            "digest-head": ("HEAD", manifest(named, PRIVATE), ()),
            "digest-of-the-other": ("GET", manifest(named, PUBLIC), ()),
            "upstream-name": ("GET", manifest(named, "team/app"), ()),
            "blob": ("GET", blob(digest, PRIVATE), ()),
            "blob-head": ("HEAD", blob(digest, PRIVATE), ()),
            "blob-range": ("GET", blob(digest, PRIVATE), part),
            "blob-of-the-other": ("GET", blob(digest, PUBLIC), ()),
            "blob-range-of-the-other": ("GET", blob(digest, PUBLIC), part),
            "blob-head-of-the-other": ("HEAD", blob(digest, PUBLIC), ()),
            "manifest-as-blob": ("HEAD", blob(named, PRIVATE), ()),
            "tags": ("GET", f"/v2/{PRIVATE}/tags/list?ns=reg.example", ()),
            "referrers": ("GET", f"/v2/{PRIVATE}/referrers/{named}?ns=reg.example", ()),
        }


@asynccontextmanager
async def scene(
    directory: Path, rules: Rules | None = None, *, clients: Mapping[str, Any] | None = None, **more: Any
) -> AsyncIterator[Scene]:
    """A proxy with a cache whose clients pull with their own credentials."""
    private, public = make_image("team/app", "1"), make_image("team/open", "1")
    listener = {"address": "127.0.0.1:0", "clients": {"auth": "upstream", **(clients or {})}}
    async with (
        ScriptedRegistry([private, public], rules or DIALECTS["strict"]) as registry,
        cached([registry.url], directory, listeners=[listener], **more) as node,
    ):
        yield Scene(private, public, registry, node)


async def warm(played: Scene) -> None:
    """Let the owner pull all of the private image, and of the public one."""
    for image, name in ((played.private, PRIVATE), (played.public, PUBLIC)):
        for target in (manifest(name=name), *(blob(digest, name) for digest in image.blobs)):
            got = await played.node.get(target, login(OWNER))
            assert got.status == 200, got


def revoke(registry: ScriptedRegistry, *accounts: Account) -> None:
    """Let only these accounts be there from now on; tokens that were given stay good, as those of real servers."""
    registry.rules = registry.issuer.rules = replace(registry.rules, accounts=accounts)
