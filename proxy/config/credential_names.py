"""Which configured credentials are for which repository, and what people see of them."""

import re
from collections.abc import Sequence
from functools import lru_cache

from proxy.config.address import Origin
from proxy.config.model import Config, Credential


def credentials_for(config: Config, origin: Origin, repository: str) -> Sequence[Credential]:
    """The credentials of a host for an upstream repository, the longest `repositories` match first."""
    matching = [item for item in config.host(origin).credentials if matches(item.repositories, repository)]
    return sorted(matching, key=lambda item: -specificity(item.repositories))


def credential_names(config: Config, origin: Origin, repository: str) -> Sequence[str]:
    """The names of all credentials that would be tried, in order."""
    return [credential_name(item) for item in credentials_for(config, origin, repository)] + [
        f"{path} (if it has an entry)" for path in config.docker_config_files
    ]


def credential_name(item: Credential) -> str:
    """What people see of a credential: its user or kind, and what it is for; never a secret."""
    if item.helper is not None:
        return f"docker-credential-{item.helper}"
    who = item.docker_config_file or item.username or "identity token"
    return who if item.repositories == "**" else f"{who} (for {item.repositories})"


def matches(pattern: str, repository: str) -> bool:
    """Whether a `repositories` pattern covers a repository: `*` is one segment, `**` any number, none included."""
    return _compile(pattern).fullmatch(repository) is not None


def specificity(pattern: str) -> int:
    """How much of a pattern is literal, in characters."""
    return len(pattern.replace("*", ""))


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    words = {"/**": "(?:/.*)?", "**": ".*", "*": "[^/]*"}
    parts = re.split(r"(/\*\*|\*\*|\*)", pattern)
    return re.compile("".join(words.get(part) or re.escape(part) for part in parts))
