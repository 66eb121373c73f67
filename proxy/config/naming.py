"""How keys are named in messages, and what the operator may have meant."""

import difflib
import re
from collections.abc import Collection

from pydantic.alias_generators import to_camel

_HARMLESS = re.compile(r"(?:https?://)?[A-Za-z0-9_*][A-Za-z0-9_.*-]{0,80}(?::[0-9]{1,5})?(?:/[A-Za-z0-9_./-]{0,80})?")
_K3S_NAMES = {
    "mirrors": "registries",
    "mirror": "registries",
    "configs": "hosts",
    "config": "hosts",
    "endpoint": "endpoints",
    "rewrite": "rewrites",
    "auth": "credentials",
    "auths": "hosts",
    "skip_verify": "insecureSkipVerify",
    "ca": "caFile",
}


def quoted_key(key: str) -> str:
    """A key in quotes; "(not shown)" if it does not look like one, for it may be a misplaced password."""
    return repr(key) if _HARMLESS.fullmatch(key) else "(not shown)"


def suggestion(key: str, known: Collection[str]) -> str | None:
    """The known key that was probably meant: the k3s name of it, its snake_case, or a slip of the keyboard."""
    for candidate in (_K3S_NAMES.get(key), to_camel(key.replace("-", "_")), _K3S_NAMES.get(key.lower())):
        if candidate is not None and candidate in known:
            return candidate
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(key.lower()[:80], lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else None


def unknown_key(key: str, known: Collection[str], *, secret: bool) -> str:
    """The message for an unknown key; where secrets stand, the key itself is not repeated unless it is a near miss."""
    meant = suggestion(key, known)
    if meant is not None and _HARMLESS.fullmatch(key):
        return f"unknown key {key!r}: did you mean {meant!r}?"
    if ":" in key:
        return "unknown key (not shown): is a space missing after the colon?"
    name = "(not shown)" if secret else quoted_key(key)
    return f"unknown key {name}: known here are {', '.join(sorted(known))}"
