"""An explanation as lines for people: those of `scope-proxy explain` and of the status page."""

from collections.abc import Callable, Iterator

from proxy.routing.explain import EndpointExplanation, Explanation

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
