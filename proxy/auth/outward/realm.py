"""Decides which token servers receive credentials: a challenge can name any server."""

from collections.abc import Collection

from yarl import URL

from proxy.config.address import Origin
from proxy.oci.errors import REASON_LIMIT

_REALM_LIMIT = 2048
_SCOPE = "scope"

BUILT_IN_REALMS: dict[Origin, Origin] = {
    Origin.parse(upstream): Origin.parse(realm)
    for upstream, realm in (
        ("https://registry-1.docker.io", "https://auth.docker.io"),
        ("https://index.docker.io", "https://auth.docker.io"),
        ("https://registry.gitlab.com", "https://gitlab.com"),
    )
}
"""Public registries whose token server is known to have another host name."""


class RealmRefused(Exception):
    """A challenge names a token server that is not trusted.

    `line` is the setting that trusts the server, if there is one; the message includes it.
    """

    def __init__(self, reason: str, line: str = "") -> None:
        super().__init__(reason)
        self.line = line


def judge_realm(realm: str, upstream: Origin, trusted: Collection[str]) -> tuple[URL, Origin]:
    """The URL and origin of the token server that a challenge of `upstream` names; raises RealmRefused.

    It must have the upstream's own scheme, host and port, be listed in `hosts.<host>.realms`, or be built in. No
    request is sent to a realm before this check (CVE-2026-33540 and similar). A scope in its own query is removed: it
    would be requested in addition to ours.
    """
    if len(realm) > _REALM_LIMIT:
        raise RealmRefused(f"{upstream.authority} names a token server with a URL of {len(realm)} characters")
    if not realm.isascii() or not realm.isprintable():
        raise RealmRefused(f"{upstream.authority} names a token server with a control or a non-ASCII character")
    try:
        url = URL(upstream.text).join(URL(realm, encoded=True)).with_fragment(None)
        origin = Origin.parse(str(url))
    except ValueError as error:
        raise RealmRefused(f"{upstream.authority} names a token server that cannot be used: {error}") from None
    if origin != upstream and origin.text not in trusted and BUILT_IN_REALMS.get(upstream) != origin:
        line = f'set hosts."{upstream.authority}".realms: [{origin}]'
        raise RealmRefused(_untrusted(origin, line), line)
    # In any case: some token servers match names of parameters without regard to case.
    scopes = {name for name in url.query if name.lower() == _SCOPE}
    return (url.without_query_params(*scopes) if scopes else url), origin


def _untrusted(origin: Origin, line: str) -> str:
    """The problem and its fix; with long names the setting comes first, because nodes truncate the reason."""
    reason = f"the registry sends us to the token server {origin}, which is not trusted; if it is right, {line}"
    is_short = len(reason) <= REASON_LIMIT
    return reason if is_short else f"{line}: the registry names this token server, which is not trusted"
