"""How an unpatched containerd turns a challenge into an Authorization header: this has the scope bug."""

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

from proxy.testbed.node_http import HostError, NodeHttp
from proxy.testbed.node_values import NodeLogin, Reply

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf"\s*({_TOKEN})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|({_TOKEN}))\s*(,|$)")
_ORDER = ("bearer", "digest", "basic")


@dataclass(frozen=True, slots=True)
class NodeChallenge:
    """One challenge: its scheme in lower case and its parameters."""

    scheme: str
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """A parameter, or the empty string."""
        return dict(self.parameters).get(name, "")


def read_challenges(lines: Iterable[str]) -> list[NodeChallenge]:
    """The challenges that containerd knows, bearer before digest before basic."""
    found = [_read(line) for line in lines]
    return sorted((one for one in found if one.scheme in _ORDER), key=lambda one: _ORDER.index(one.scheme))


def _read(line: str) -> NodeChallenge:
    scheme, _, rest = line.strip().partition(" ")
    parameters: dict[str, str] = {}
    at = 0
    while match := _PARAMETER.match(rest, at):
        quoted = match[2]
        parameters[match[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3]
        at = match.end()
        if not match[4]:
            break
    return NodeChallenge(scheme.lower(), tuple(parameters.items()))


CLIENT_ID = "containerd-client"

_GET_AFTER = frozenset({400, 401, 404})


class NodeAuth:
    """The authorizer of one phase (resolve or fetch): containerd builds a new one for each."""

    def __init__(self, http: NodeHttp, original: str, login: NodeLogin | None) -> None:
        self._http = http
        self._own_scope = f"repository:{original}:pull"  # of the name in the image, whatever stands on the wire
        self._login = login
        self._challenge: NodeChallenge | None = None
        self._header = ""
        self._failed = False  # the answer before this one refused a token with `error=`

    def new_request(self) -> None:
        """Start with another resource: forget that a token was refused."""
        self._failed = False

    def learn(self, reply: Reply) -> bool:
        """Take in a 401; False when no challenge in it can be met.

        Raises HostError when the challenge asks for a credential that the node does not have, or refuses
        a fresh token with a reason.
        """
        for challenge in read_challenges(reply.headers.getall("WWW-Authenticate", [])):
            if challenge.scheme == "bearer":
                self._learn_bearer(challenge)
                return True
            if challenge.scheme == "basic" and self._login is not None:
                self._header = self._basic()
                return True
        return False

    async def header(self) -> str:
        """The Authorization header to send now, or the empty string; raises HostError when no token is given."""
        if not self._header and self._challenge is not None:
            self._header = f"Bearer {await self._token(self._challenge)}"
        return self._header

    def _learn_bearer(self, challenge: NodeChallenge) -> None:
        if not challenge.get("realm"):
            raise HostError("failed to authorize: no realm specified for token auth challenge")
        reason = challenge.get("error")
        if reason and self._failed:
            raise HostError(f"server message: {reason}: authorization failed")
        self._failed = bool(reason)
        if reason or self._challenge is None:
            self._challenge, self._header = challenge, ""

    def _basic(self) -> str:
        if self._login is None or not (self._login.username and self._login.secret):
            raise HostError("no basic auth credentials: authorization failed")
        pair = f"{self._login.username}:{self._login.secret}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    async def _token(self, challenge: NodeChallenge) -> str:
        scopes = tuple(sorted({self._own_scope, *challenge.get("scope").split()}))
        if self._login is None:
            return _token_of(await self._get(challenge, scopes), "anonymous")
        reply = await self._post(challenge, scopes, self._login)
        if reply.status in _GET_AFTER or (reply.status == 405 and self._login.username):  # noqa: PLR2004 - one status
            reply = await self._get(challenge, scopes)
        return _token_of(reply, "oauth")

    async def _get(self, challenge: NodeChallenge, scopes: tuple[str, ...]) -> Reply:
        service = challenge.get("service")
        pairs = [("scope", scope) for scope in scopes] + ([("service", service)] if service else [])
        realm = challenge.get("realm")
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(pairs)}"
        return await self._http.get_token(url, {"Authorization": self._basic()} if self._login else {}, scopes)

    async def _post(self, challenge: NodeChallenge, scopes: tuple[str, ...], login: NodeLogin) -> Reply:
        form = {"client_id": CLIENT_ID, "scope": " ".join(scopes), "service": challenge.get("service")}
        if login.username:
            form |= {"grant_type": "password", "username": login.username, "password": login.secret}
        else:
            form |= {"grant_type": "refresh_token", "refresh_token": login.secret}
        return await self._http.post(challenge.get("realm"), urlencode(sorted(form.items())), scopes)


def _token_of(reply: Reply, kind: str) -> str:
    what = f"failed to authorize: failed to fetch {kind} token"
    if reply.status >= 400:  # noqa: PLR2004 - containerd takes everything below for success
        raise HostError(f"{what}: {reply.complaint}")
    try:
        document = json.loads(reply.body)
    except ValueError as error:
        raise HostError(f"{what}: unable to decode token response: {error}") from error
    fields = ("access_token",) if reply.method == "POST" else ("access_token", "token")
    for name in fields:
        if isinstance(document, dict) and document.get(name):
            return str(document[name])
    raise HostError(f"{what}: authorization server did not include a token in the response")
