"""Who pulls from a listener: nobody is asked, users, certificates, or credentials that the upstream judges."""

from typing import Protocol

from aiohttp import web

from proxy.oci.errors import Denied, RegistryError, UpstreamUnavailable
from proxy.oci.request import RegistryRequest
from proxy.routing.caller import PROXY, Caller
from proxy.routing.table import Route


class NoTokens(UpstreamUnavailable):
    """No token can be given out here, since there is no key to seal it with."""


class ClientCheck(Protocol):
    """Tells who sends a request."""

    async def identify(self, request: web.BaseRequest, asked: RegistryRequest) -> Caller:
        """The client; raises Unauthorized where it has to say who it is."""

    def permit(self, route: Route, asked: RegistryRequest) -> None:
        """Make sure that what the client has shown is for this repository; raises Unauthorized."""

    def refused(self, request: web.BaseRequest, asked: RegistryRequest, error: Denied) -> RegistryError:
        """The error for a client that the upstream, or a rule, has refused."""


class Everybody:
    """`none`: credentials are dropped unread, and nobody is ever asked for any (containerd then sends none)."""

    async def identify(self, request: web.BaseRequest, asked: RegistryRequest) -> Caller:  # noqa: ARG002 - unread
        """Whoever it is."""
        return PROXY

    def permit(self, route: Route, asked: RegistryRequest) -> None:
        """Everything."""

    def refused(self, request: web.BaseRequest, asked: RegistryRequest, error: Denied) -> RegistryError:  # noqa: ARG002
        """The upstream's refusal is never a 401 here."""
        return error
