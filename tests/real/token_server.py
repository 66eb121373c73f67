"""A strict token server: it refuses a request that holds any scope it does not know, and keeps a record."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiohttp import web

from tests.real.signing import Signer
from tests.real.strictness import Mode, Verdict, judge, parse

USER, PASSWORD = "robot", "robot-password"
OTHER, OTHER_PASSWORD = "other", "other-password"
ADMIN, ADMIN_PASSWORD = "admin", "admin-password"
REFRESH_TOKEN = "robot-refresh-token"
EXPIRES_IN = 300
ASSUMED_LIFE = 60  # seconds; what the specification says where `expires_in` is missing
BODY_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One token request as the server got it; no password is kept."""

    method: str
    scope_parameters: tuple[str, ...]  # each parameter as sent, not yet split at spaces
    user: str | None
    grant_type: str | None
    service: str | None
    status: int

    @property
    def scopes(self) -> tuple[str, ...]:
        """Every requested scope, in the order sent."""
        return tuple(scope for parameter in self.scope_parameters for scope in parameter.split())


class TokenServer:
    """The state of the server; tests set its attributes between requests and read `requests`."""

    def __init__(self, signer: Signer, repositories: Collection[str]) -> None:
        self._signer = signer
        self._known = frozenset(repositories)
        self.url = ""
        self.reset()

    def reset(self) -> None:
        """Back to: Artifactory's strictness, anonymous pulls allowed, POST forms answered, an empty record."""
        self.mode = Mode.ARTIFACTORY
        self.repositories: frozenset[str] = self._known
        self.rights: dict[str, frozenset[str]] = {}  # by user, for those who may not pull everything
        self.anonymous = True
        self.post_status: int | None = None  # e.g. 404 or 405: forms are refused with it, GET works
        self.expires_in: int | None = EXPIRES_IN  # seconds; None leaves the field out
        self.token_fields: tuple[str, ...] = ("token", "access_token")
        self.requests: list[TokenRequest] = []

    def scopes(self) -> set[str]:
        """Every scope that was requested since the last reset."""
        return {scope for request in self.requests for scope in request.scopes}

    def app(self) -> web.Application:
        """The server's handlers; its realm is `/token`."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_get("/token", self._get)
        app.router.add_post("/token", self._post)
        return app

    async def _get(self, request: web.Request) -> web.Response:
        user, allowed = self._basic_user(request.headers.get("Authorization"))
        return self._answer("GET", request.query, tuple(request.query.getall("scope", [])), user, allowed)

    async def _post(self, request: web.Request) -> web.Response:
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        user, allowed = self._form_user(form)
        scope = (form["scope"],) if "scope" in form else ()
        return self._answer("POST", form, scope, user, allowed)

    def _answer(
        self, method: str, fields: Mapping[str, str], scopes: tuple[str, ...], user: str | None, allowed: bool
    ) -> web.Response:
        verdict = self._verdict(method, scopes, user, allowed)
        self.requests.append(
            TokenRequest(method, scopes, user, fields.get("grant_type"), fields.get("service"), verdict.status)
        )
        if verdict.status != web.HTTPOk.status_code:
            return web.json_response({"errors": [{"code": "DENIED", "message": "refused"}]}, status=verdict.status)
        return web.json_response(self._grant(verdict, user))

    def _verdict(self, method: str, parameters: tuple[str, ...], user: str | None, allowed: bool) -> Verdict:
        scopes = [parse(text) for parameter in parameters for text in parameter.split()]
        if method == "POST" and self.post_status is not None:
            return Verdict(self.post_status)
        if not allowed:
            return Verdict(web.HTTPUnauthorized.status_code)
        if user == ADMIN:  # uploads images; not a client under judgement
            return Verdict(web.HTTPOk.status_code, [scope.granting(scope.actions) for scope in scopes])
        return judge(self.mode, scopes, self.repositories & self.rights.get(user or "", self.repositories))

    def _grant(self, verdict: Verdict, user: str | None) -> dict[str, object]:
        lifetime = ASSUMED_LIFE if self.expires_in is None else self.expires_in
        token = self._signer.token(verdict.access, user=user or "", lifetime=lifetime)
        body: dict[str, object] = dict.fromkeys(self.token_fields, token)
        if self.expires_in is not None:
            body["expires_in"] = self.expires_in
        return body

    def _basic_user(self, header: str | None) -> tuple[str | None, bool]:
        if header is None:
            return None, self.anonymous
        scheme, _, encoded = header.partition(" ")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None, False
        return user, scheme.lower() == "basic" and _is_right(user, password)

    def _form_user(self, form: Mapping[str, str]) -> tuple[str | None, bool]:
        if form.get("grant_type") == "refresh_token":
            right = hmac.compare_digest(form.get("refresh_token", ""), REFRESH_TOKEN)
            return (USER, True) if right else (None, False)
        user = form.get("username", "")
        return user, form.get("grant_type") == "password" and _is_right(user, form.get("password", ""))


def _is_right(user: str, password: str) -> bool:
    expected = {USER: PASSWORD, OTHER: OTHER_PASSWORD, ADMIN: ADMIN_PASSWORD}.get(user)
    return expected is not None and secrets.compare_digest(password.encode(), expected.encode())
