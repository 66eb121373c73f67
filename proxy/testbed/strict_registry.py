"""A registry with a strict token server, as those that refuse containerd's second scope."""

import ssl
import time
from collections.abc import Callable, Iterable

from proxy.testbed import routes
from proxy.testbed.answer import Answer, error_answer, json_answer
from proxy.testbed.images import Image
from proxy.testbed.library import Library, Repository
from proxy.testbed.record import Call, Kind
from proxy.testbed.server import RecordingServer
from proxy.testbed.tokens import ANONYMOUS, Account, Rules, TokenIssuer, basic_credential, find_account

TOKEN_PATH = "/token"


class StrictRegistry(RecordingServer):
    """Serves images to whoever brings a token for exactly their repository.

    It imports nothing of the proxy and judges scopes by comparing strings: what it shows cannot be
    an error that both sides share. `issuer` lets two servers share their tokens.
    """

    def __init__(
        self,
        images: Iterable[Image] = (),
        rules: Rules | None = None,
        *,
        root: str = "/v2",
        tls: ssl.SSLContext | None = None,
        issuer: TokenIssuer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(root=root, tls=tls)
        self.rules = rules or Rules()
        self.library = Library()
        self.issuer = issuer or TokenIssuer(self.rules, lambda: self.library.repositories, clock)
        for image in images:
            self.add(image)

    @property
    def realm(self) -> str:
        """The address of the token endpoint that challenges name."""
        return self.rules.realm or f"{self.url}{TOKEN_PATH}"

    def add(self, image: Image) -> None:
        """Hold one more image."""
        self.library.add(image)

    def answer(self, call: Call) -> Answer:
        """What to answer to a request."""
        if call.kind == "token":
            return self.issuer.answer(call)
        if call.method not in {"GET", "HEAD"}:
            return error_answer(405, "UNSUPPORTED", "this registry is read-only", [("Allow", "GET, HEAD")])
        if call.kind == "other":
            return error_answer(404, "NAME_UNKNOWN", "no such path")
        return self.refusal(call) or self._content(call)

    def refusal(self, call: Call) -> Answer | None:
        """Why the request may not pull, as the answer to send; None when it may."""
        if self.rules.dialect == "none":
            return None
        if self.rules.dialect == "basic":
            return self._basic_refusal(call)
        scheme, _, token = call.header("Authorization").partition(" ")
        if scheme.lower() != "bearer":
            return self.challenge(call)
        grant = self.issuer.grant(token)
        if grant is None:
            return self.dead_token(call)
        if call.repository and f"repository:{call.repository}:pull" not in grant.scopes:
            return self.challenge(call, error="insufficient_scope")
        return None

    def challenge(self, call: Call, *, error: str = "") -> Answer:
        """The 401 that names the realm and the one scope."""
        parameters = {"realm": self.realm, "service": self.rules.service}
        if call.repository:
            parameters["scope"] = f"repository:{call.repository}:pull"
        if error:
            parameters["error"] = error
        line = "Bearer " + ",".join(f'{name}="{value}"' for name, value in parameters.items())
        return error_answer(401, "UNAUTHORIZED", "authentication required", [("WWW-Authenticate", line)])

    def dead_token(self, call: Call) -> Answer:
        """The answer to a token that is unknown, expired or revoked."""
        return self.challenge(call, error="invalid_token")

    def credential(self, call: Call) -> str:
        """Which credential a request carries, in words without a secret."""
        scheme, _, token = call.header("Authorization").partition(" ")
        basic = basic_credential(call)
        if basic is not None:
            return f"basic {basic[0]}"
        if scheme.lower() == "bearer":
            return f"bearer {self.issuer.number(token) or 'unknown'}"
        if call.value("refresh_token"):
            return "refresh-token"
        return f"password {call.value('username')}" if call.value("password") else scheme.lower() or "anonymous"

    def _basic_refusal(self, call: Call) -> Answer | None:
        account = self._basic_account(call)
        if account is None:
            challenge = ("WWW-Authenticate", f'Basic realm="{self.rules.service}"')
            return error_answer(401, "UNAUTHORIZED", "authentication required", [challenge])
        if call.repository and not account.may_pull(call.repository):
            return error_answer(403, "DENIED", "requested access to the resource is denied")
        return None

    def _basic_account(self, call: Call) -> Account | None:
        if call.header("Authorization"):
            return find_account(call, self.rules.accounts)
        return ANONYMOUS if self.rules.open_to_all else None

    def _content(self, call: Call) -> Answer:
        if call.kind == "ping":
            return json_answer(200, {})
        repository = self.library.repositories.get(call.repository)
        if repository is None:
            return error_answer(404, "NAME_UNKNOWN", "repository name not known to registry")
        return self._resource(call, repository) or error_answer(404, "NAME_UNKNOWN", "no such path")

    def _resource(self, call: Call, repository: Repository) -> Answer | None:
        if call.kind == "manifest":
            return routes.manifest(call, repository)
        if call.kind == "blob":
            return routes.blob(call, repository)
        if call.kind == "tags" and call.reference == "list":
            return routes.tags(call, repository, self.root)
        if call.kind == "referrers" and self.rules.referrers:
            return routes.referrers(call, repository)
        return None

    def _route(self, path: str) -> tuple[Kind, str, str]:
        return ("token", "", "") if path == TOKEN_PATH else super()._route(path)
