"""Small helpers of these tests."""

from dataclasses import dataclass

from proxy.auth.outward.exchange import TokenRequest
from proxy.auth.outward.realm import judge_realm
from proxy.config.address import Origin
from proxy.oci.login import Login, LoginKind
from proxy.oci.scope import Scope

ROBOT = Login("robot", LoginKind.PASSWORD, "robot", "s3cret")
REFRESH = Login("refresh", LoginKind.IDENTITY_TOKEN, "", "s3cret-refresh")
REPOSITORY = "team/app"
SCOPE = f"repository:{REPOSITORY}:pull"


@dataclass(slots=True)
class Clock:
    """A clock that stands still until it is set; in seconds."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def token_request(
    realm: str, login: Login, *, service: str | None = "reg", repository: str = REPOSITORY, host: str = ""
) -> TokenRequest:
    """A request to the realm of a host that has its token server on its own origin."""
    origin = Origin.parse(host or realm)
    url, realm_origin = judge_realm(realm, origin, (Origin.parse(realm).text,))
    return TokenRequest(url, realm_origin, origin, service, Scope.pull(repository), login, "upstream")
