"""The strict registry with scripted faults, for the fast tests of the proxy."""

from typing import Literal

from proxy.testbed.answer import Answer, BodyContent, error_answer
from proxy.testbed.images import ImageDescriptor
from proxy.testbed.record import Call
from proxy.testbed.strict_registry import StrictRegistry
from tests.fakes.blobs import digest_of
from tests.fakes.scripted import ScriptedServer

DeadToken = Literal["error", "no error", "400", "403", "basic", "no challenge"]


class ScriptedRegistry(ScriptedServer, StrictRegistry):
    """A strict registry that does wrong where `script` says so."""

    _dead_token: DeadToken = "error"

    def add_blob(
        self, repository: str, content: BodyContent, media_type: str = "application/octet-stream"
    ) -> ImageDescriptor:
        """Hold a blob that need not fit in memory."""
        digest = digest_of(content)
        self.library.repository(repository).blobs[digest] = content
        return ImageDescriptor(media_type, digest, content.size)

    def revoke_tokens(self, dead_token: DeadToken = "error") -> None:
        """Make all tokens so far worthless, and from now on answer dead tokens in this way.

        "error" and "no error" are 401 with and without `error="invalid_token"`; "400" and "403" say in the body
        that the token expired; "basic" is a Basic challenge, as from Harbor; "no challenge" a bare 401.
        """
        self._dead_token = dead_token
        self.issuer.revoke_all()

    def dead_token(self, call: Call) -> Answer:
        """The answer to a token that is unknown, expired or revoked."""
        if self._dead_token == "error":
            return super().dead_token(call)
        if self._dead_token == "no error":
            return self.challenge(call)
        if self._dead_token in {"400", "403"}:
            return error_answer(int(self._dead_token), "DENIED", "Your authorization token has expired.")
        lines = [("WWW-Authenticate", f'Basic realm="{self.rules.service}"')] if self._dead_token == "basic" else []
        return error_answer(401, "UNAUTHORIZED", "unauthorized", lines)
