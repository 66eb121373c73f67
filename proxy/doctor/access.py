"""What a token says that it grants; read without verification, so it is told and never relied on."""

import base64
import json
from typing import Any


def granted_actions(token: str, repository: str) -> frozenset[str] | None:
    """The actions that a JWT grants for a repository; None for a token that cannot be read."""
    claims = _claims(token)
    access = claims.get("access") if claims is not None else None
    if not isinstance(access, list):
        return None
    entries = (entry for entry in access if isinstance(entry, dict) and entry.get("name") == repository)
    listed = (entry.get("actions") for entry in entries)
    return frozenset(str(action) for actions in listed if isinstance(actions, list) for action in actions)


def _claims(token: str) -> dict[str, Any] | None:
    """The claims of a JWT (RFC 7519): the second of its three parts."""
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        return None
    padded = parts[1] + "=" * (-len(parts[1]) % 4)
    try:
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None
