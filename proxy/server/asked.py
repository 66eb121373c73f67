"""What requests ask for, read from their targets: nodes ask for the same things again and again."""

from cachetools import LRUCache

from proxy.oci.errors import NameInvalid
from proxy.oci.request import RegistryRequest, parse_request
from proxy.server.framing import NodeRequest

REMEMBERED = 4096
"""Targets whose meaning is remembered."""
TARGET_REMEMBERED = 512
"""Characters of the longest target that is: a name, a digest and `ns=` fit, and all of them have a bound together."""


class Asked:
    """Reads targets; what comes of one depends on nothing but itself and the method, so it is remembered."""

    def __init__(self) -> None:
        self._known: LRUCache[tuple[str, str], tuple[str, RegistryRequest]] = LRUCache(REMEMBERED)

    def path(self, request: NodeRequest) -> str:
        """The path that is asked for, percent signs decoded; for people and for what is no part of the API."""
        known = self._known.get((request.method, request.raw_path))
        return request.path if known is None else known[0]

    def of(self, request: NodeRequest) -> RegistryRequest:
        """What is asked; raises Unsupported, NameInvalid and DigestInvalid."""
        method, target = request.method, request.raw_path
        known = self._known.get((method, target))
        if known is None:
            asked = parse_request(method, target.partition("?")[0], request.query.items())
            known = request.path, asked
            if len(target) <= TARGET_REMEMBERED:
                self._known[method, target] = known
        if request.body_exists:
            raise NameInvalid("a pull has no body")
        return known[1]
