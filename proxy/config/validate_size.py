"""How many registries and rules a configuration has: each has series of its own in the metrics."""

from proxy.config.findings import Findings
from proxy.config.model import Config, Registry

SERIES_LIMIT = 50
"""Most registries, and most rewrite rules, that the metrics are meant for; more work, and are warned of."""
_OF_REGISTRY = 140
"""About so many series a registry has."""


def check_size(config: Config, findings: Findings) -> None:
    """Warn of more registries or rules than the metrics are meant for."""
    registries = len(config.registries)
    if registries > SERIES_LIMIT:
        findings.warning_at_key(
            ("registries",),
            f"{registries} registries: each adds about {_OF_REGISTRY} series to the metrics, and more than "
            f'{SERIES_LIMIT} are many for Prometheus. Let "*" serve those that need no settings of their own',
        )
    rules = sum(map(_rules, config.registries.values()))
    if rules > SERIES_LIMIT:
        findings.warning_at_key(
            ("registries",),
            f"{rules} rewrite rules: each adds a series to the metrics, and more than {SERIES_LIMIT} are hard to "
            "oversee. A pattern with groups can do the work of many",
        )


def _rules(registry: Registry) -> int:
    return len(registry.rewrites) + sum(len(endpoint.rewrites or ()) for endpoint in registry.endpoints)
