"""Explains the decision about one image, as values and as text, for `scope-proxy explain` and the status page."""

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
    """One endpoint of the route."""

    url: str
    place: str
    path: str
    rule: str
    request: str
    scope: str
    credential: str
    unpatched_rewriting: tuple[str, ...]
    """Scopes that an unpatched containerd requests if its registries.yaml rewrites."""
    unpatched_plain: tuple[str, ...]
    """Scopes that an unpatched containerd requests if it uses this endpoint without rewriting."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The route of an image, and whether a client may pull it."""

    image: str
    registry: str
    repository: str
    trace: tuple[str, ...]
    client: str
    access: AccessDecision
    endpoints: tuple[EndpointExplanation, ...]

    def as_dict(self) -> dict[str, Any]:
        """The explanation as plain data."""
        return asdict(self)


def explain_image(config: Config, places: Places, image: ImageReference, client: str = ANONYMOUS_NAME) -> Explanation:
    """The route of a pull of the image through the proxy; raises RegistryError if there is none.

    Access rules that deny the pull are not an error: the explanation contains the decision.
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
    """Scopes that an unpatched containerd requests: the challenge's and the image's, sorted, without duplicates."""
    return tuple(sorted({str(Scope.pull(original)), str(Scope.pull(challenged))}))


def _credentials(config: Config, origin: Origin, repository: str) -> str:
    names = credential_names(config, origin, repository)
    return ", then ".join(names) if names else "none: the pull is anonymous"


LABEL_WIDTH = 26
"""Width of the labels in columns."""

Style = Callable[[str, str], str]
"""Formats a text by its kind: `title`, `good`, `bad` or `doubtful`."""


def plain(text: str, _: str) -> str:
    """The text without formatting."""
    return text


def explanation_lines(explanation: Explanation, style: Style = plain) -> Iterator[str]:
    """The explanation as lines of text, without line ends."""
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
        ("requested scope", style(endpoint.scope, "good")),
        ("credential", endpoint.credential),
        ("unpatched containerd would request", ""),
        ("  rewriting on the node", style("  ".join(endpoint.unpatched_rewriting), "doubtful")),
        ("  not rewriting", style("  ".join(endpoint.unpatched_plain), "doubtful")),
    )
