"""What contradicts `cache.offline`."""

from proxy.config.errors import Findings
from proxy.config.model import Config


def check_offline(config: Config, findings: Findings) -> None:
    """Report listeners whose clients only an upstream can judge, where no upstream is requested."""
    if config.cache is None or not config.cache.offline:
        return
    for index, listener in enumerate(config.listeners):
        if listener.clients.asks_upstream:
            findings.error(
                ("listeners", index, "clients", "auth"),
                "auth: upstream has the registry prove what a client may pull, and cache.offline sends it no request: "
                "use basic or certificate with access rules, or remove cache.offline",
            )
