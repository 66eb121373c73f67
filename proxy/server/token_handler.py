"""The HTTP side of `/token`."""

import json

from aiohttp import web

from proxy.server.record import RequestRecord
from proxy.server.responses import Responder
from proxy.server.token import TokenEndpoint
from proxy.server.token_request import ClientTokenRequest

_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749, section 5.1: nobody on the way keeps a token."""


class TokenHandler:
    """Answers the requests for tokens of one listener."""

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._endpoint = endpoint

    async def __call__(
        self, request: web.BaseRequest, body: bytes, record: RequestRecord, responder: Responder
    ) -> web.StreamResponse:
        """A token, or why there is none; raises RegistryError."""
        record.operation = "token"
        asked = ClientTokenRequest(
            request.method,
            tuple(request.query.items()),
            request.headers.getall("Authorization", []),
            request.headers.get("Content-Type", ""),
            body,
        )
        answer = await self._endpoint.respond(asked)
        return await responder.whole(json.dumps(answer).encode(), _HEADERS)
