"""Series go with what they tell of: reloads with other names do not pile them up, and nothing stale raises an alert.

A request of the configuration before can bring one of them back as it ends; the next reload removes it again.
"""

import math
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from prometheus_client.metrics import MetricWrapperBase

from proxy import metrics
from proxy.config.model import Config

_HOSTS = "hosts."


def forget_the_gone(
    config: Config, of_upstreams: Iterable[MetricWrapperBase], rules: AbstractSet[tuple[str, str]]
) -> None:
    """Remove the series of upstreams, rules and client certificates that a configuration does not have.

    `of_upstreams` are the metrics whose first label is the upstream. With several workers nothing can be removed:
    what would raise an alert is set to what raises none.
    """
    if not metrics.can_forget():
        _quieten(config)
        return
    for metric in of_upstreams:
        metrics.forget(metric, {values for values in metrics.known(metric) if values[0] not in config.registries})
    metrics.forget(metrics.REWRITES, metrics.known(metrics.REWRITES) - rules)
    metrics.forget(metrics.TLS_NOT_AFTER, _gone_certificates(config))


def _quieten(config: Config) -> None:
    """What was an upstream is not down: nobody asks for it any more; and a certificate that is not shown cannot end."""
    for values in metrics.known(metrics.UPSTREAM_UP):
        if values[0] not in config.registries:
            metrics.UPSTREAM_UP.labels(*values).set(1)
    for values in _gone_certificates(config):
        metrics.TLS_NOT_AFTER.labels(*values).set(math.inf)


def _gone_certificates(config: Config) -> set[tuple[str, ...]]:
    """Those of `hosts` that are gone; the listeners' stay in use until the next start."""
    shown = {f"{_HOSTS}{name}.tls" for name, host in config.hosts.items() if host.tls.cert_file is not None}
    named = metrics.known(metrics.TLS_NOT_AFTER)
    return {values for values in named if values[0].startswith(_HOSTS) and values[0] not in shown}
