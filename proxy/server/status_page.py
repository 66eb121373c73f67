"""The status page: HTML made of the status, with nothing that a browser would have to fetch elsewhere."""

import base64
import functools
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from proxy.server.status import Level, Links, Status
from proxy.server.status_explain import CLIENT_LIMIT, IMAGE_LIMIT, Box
from proxy.server.status_words import clock, count, key, percent, query, size, span
from proxy.upstream.endpoints import EndpointState

_FOLDER = "page"
_PACKAGE = "proxy.server"
_LEVEL_WORDS = {Level.OK: "Well", Level.WARNING: "Warning", Level.BAD: "Failing"}
_POLICY = (
    "default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class StateWord:
    """How the page calls the state of an endpoint."""

    word: str
    level: Level


STATES = {
    EndpointState.UNASKED: StateWord("not asked yet", Level.OK),
    EndpointState.OK: StateWord("well", Level.OK),
    EndpointState.REFUSING: StateWord("last answer not usable", Level.WARNING),
    EndpointState.FAILING: StateWord("failed", Level.BAD),
    EndpointState.COOLING: StateWord("failed, asked last", Level.BAD),
    EndpointState.RESTING: StateWord("left alone as it asked", Level.BAD),
}


class Page:
    """Renders the page; making one reads files, and rendering takes a few milliseconds: neither is for the loop."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader(_PACKAGE, _FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        words = {"clock": clock, "count": count, "key": key, "percent": percent, "query": query}
        environment.filters.update(words | {"size": size, "span": span, "word": _LEVEL_WORDS.__getitem__})
        self._template = environment.get_template("status.html")
        self._style, self._script = _part("status.css"), _part("status.js")
        self.policy = _POLICY.format(style=_hash(self._style), script=_hash(self._script))
        """The Content-Security-Policy: this style and this script, and nothing else."""

    def render(self, status: Status, box: Box, links: Links) -> str:
        """The page."""
        return self._template.render(
            status=status,
            headline=headline(status),
            states=STATES,
            box=box,
            links=links,
            image_limit=IMAGE_LIMIT,
            client_limit=CLIENT_LIMIT,
            css=self._style,
            script=self._script,
        )


@functools.cache
def page() -> Page:
    """The one page of this process; the first call reads files."""
    return Page()


def headline(status: Status) -> str:
    """Whether it is working, in a few words."""
    bad = sum(finding.level is Level.BAD for finding in status.findings)
    if not bad:
        return "Working" if status.level is Level.OK else "Working, with warnings"
    if not status.process.ready:
        return "Not serving"
    return "Some pulls fail" if any(upstream.level is not Level.BAD for upstream in status.upstreams) else "Pulls fail"


def _part(name: str) -> str:
    return files(_PACKAGE).joinpath(_FOLDER, name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source expression of a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
