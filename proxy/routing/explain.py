"""The whole decision about one image, as values and in words: what `scope-proxy explain` and the status page print."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from proxy.config.address import Origin
from proxy.config.credentials import credential_names
from proxy.config.model import Config
from proxy.oci.login import ANONYMOUS_NAME
from proxy.oci.reference import ImageReference
from proxy.oci.scope import Scope
from proxy.routing.access import AccessDecision, AccessRules
from proxy.routing.table import Places, RouteTable, Target


@dataclass(frozen=True, slots=True)
class EndpointExplanation:
    """One endpoint, in the order in which they are tried."""

    url: str
    place: str
    path: str
    rule: str
    request: str
    scope: str
    credential: str
    unpatched_rewriting: tuple[str, ...]
    """Scopes of an unpatched containerd whose registries.yaml rewrites by itself."""
    unpatched_plain: tuple[str, ...]
    """Scopes of an unpatched containerd that is pointed at this endpoint and does not rewrite."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The route of an image, and whether a client may take it."""

    image: str
    registry: str
    repository: str
    trace: tuple[str, ...]
    client: str
    access: AccessDecision
    endpoints: tuple[EndpointExplanation, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def explain_image(config: Config, places: Places, image: ImageReference, client: str = ANONYMOUS_NAME) -> Explanation:
    """The route that a pull of the image through the proxy takes; raises RegistryError where there is none.

    A client that may not pull by the access rules is no error: the explanation says so.
    """
    route = RouteTable(config, places).resolve(image.repository, namespace=image.registry)
    endpoints = tuple(_explain(config, route.repository, image, target) for target in route.targets)
    access = AccessRules(config, places).check(route, client)
    return Explanation(str(image), route.registry, route.repository, route.trace, client, access, endpoints)


def _explain(config: Config, repository: str, image: ImageReference, target: Target) -> EndpointExplanation:
    scope = str(Scope.pull(target.repository))
    if target.scope == "challenge":
        scope += " (or the one repository that the challenge names)"
    query = f"?ns={target.namespace}" if target.namespace else ""
    return EndpointExplanation(
        url=str(target.endpoint),
        place=target.place,
        path=target.path,
        rule=target.rewriting.note,
        request=f"GET {target.url(f'manifests/{image.reference}')}{query}",
        scope=scope,
        credential=_credentials(config, target.endpoint.origin, target.repository),
        unpatched_rewriting=_node_scopes(repository, target.repository),
        unpatched_plain=_node_scopes(repository, target.endpoint.repository(repository)),
    )


def _node_scopes(original: str, challenged: str) -> tuple[str, ...]:
    """What an unpatched containerd asks for: the challenge's scope and the image's own, sorted, equal ones once."""
    return tuple(sorted({str(Scope.pull(original)), str(Scope.pull(challenged))}))


def _credentials(config: Config, origin: Origin, repository: str) -> str:
    names = credential_names(config, origin, repository)
    return ", then ".join(names) if names else "none: the pull is anonymous"


LABEL_WIDTH = 26
"""Columns of the labels."""

Style = Callable[[str, str], str]
"""Dresses a text by its tone: `title`, `good`, `bad` or `doubtful`."""


def plain(text: str, _: str) -> str:
    """No dress."""
    return text


def explanation_lines(explanation: Explanation, style: Style = plain) -> Iterator[str]:
    """The lines, without line ends."""
    yield style(explanation.image, "title")
    for line in explanation.trace:
        yield f"  {line}"
    if explanation.access.place:
        yield f"  {_access(explanation, style)}"
    for number, endpoint in enumerate(explanation.endpoints, start=1):
        yield f"endpoint {number} of {len(explanation.endpoints)}"
        for label, value in _rows(endpoint, style):
            yield f"  {label:<{LABEL_WIDTH}}{value}".rstrip()


def _access(explanation: Explanation, style: Style) -> str:
    decision = explanation.access
    verdict = style("may pull", "good") if decision.allowed else style("may not pull", "bad")
    return f"{explanation.client} {verdict}: {decision.text} ({decision.place})"


def _rows(endpoint: EndpointExplanation, style: Style) -> tuple[tuple[str, str], ...]:
    return (
        ("URL", f"{endpoint.url}  ({endpoint.place})"),
        ("rewrite", endpoint.rule),
        ("request", endpoint.request),
        ("scope asked", style(endpoint.scope, "good")),
        ("credential", endpoint.credential),
        ("unpatched containerd would ask", ""),
        ("  rewriting on the node", style("  ".join(endpoint.unpatched_rewriting), "doubtful")),
        ("  not rewriting", style("  ".join(endpoint.unpatched_plain), "doubtful")),
    )
