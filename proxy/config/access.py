"""Who may pull what: the rules of `access`."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.config.base import Model, as_list


class AccessRule(Model):
    """Which clients may, or may not, pull which repositories; the first rule that matches decides."""

    action: Literal["allow", "deny"]
    """What the rule does."""
    registries: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)] = ("*",)
    """Registries that it is for; `*` stands for any part of a name."""
    repositories: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)] = ("**",)
    """Repositories as nodes ask for them: `*` stands for one segment and `**` for any number. `deny` looks at the name
    upstream as well, so that no other name leads there."""
    clients: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)] = ("*",)
    """Names of clients: user, or subject of the certificate; `anonymous` for one without; `*` stands for any part."""
