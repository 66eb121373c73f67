"""Renders the status page as self-contained HTML."""

import base64
import functools
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from proxy.config.base import readable_size
from proxy.server.refusals import Refusal
from proxy.server.status.collector import CLIENT_LIMIT, IMAGE_LIMIT, ExplainForm
from proxy.server.status.images import PATTERN_LIMIT, CachedImages
from proxy.server.status.values import Level, Links, Status
from proxy.upstream.endpoints import EndpointState

_SPANS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def clock(at: float) -> str:
    """A time in UTC, in seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """A duration in its largest unit."""
    for length, unit in _SPANS:
        if seconds >= 2 * length:
            return f"{int(seconds / length)} {unit}"
    return f"{max(0, int(seconds))} s"


def count(value: int) -> str:
    """A number with separated thousands."""
    return f"{value:,}".replace(",", "\N{NO-BREAK SPACE}")


def percent(ratio: float | None) -> str:
    """A percentage; a dash if None."""
    return "\N{EN DASH}" if ratio is None else f"{100 * ratio:.1f} %"


def query(parameters: dict[str, str]) -> str:
    """The query of a URL, without empty values."""
    return urlencode({name: value for name, value in parameters.items() if value})


def key(refusal: Refusal) -> str:
    """An HTML id that stays the same if a refusal is repeated."""
    identity = f"{refusal.image} {refusal.status} {refusal.code}"
    return f"error-{hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()}"


_DIRECTORY = "page"
_PACKAGE = "proxy.server"
_LEVEL_WORDS = {Level.OK: "OK", Level.WARNING: "Warning", Level.BAD: "Failing"}
_POLICY = (
    "default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class StateText:
    """The text for the state of an endpoint."""

    text: str
    level: Level


STATES = {
    EndpointState.UNASKED: StateText("no request yet", Level.OK),
    EndpointState.OK: StateText("ok", Level.OK),
    EndpointState.REFUSING: StateText("last response unusable", Level.WARNING),
    EndpointState.FAILING: StateText("failed", Level.BAD),
    EndpointState.COOLING: StateText("failed, tried last", Level.BAD),
    EndpointState.RESTING: StateText("paused by Retry-After", Level.BAD),
}


class Page:
    """Renders the page. Both the constructor (reads files) and `render` (takes milliseconds) block."""

    def __init__(self) -> None:
        environment = Environment(
            loader=PackageLoader(_PACKAGE, _DIRECTORY),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters = {"clock": clock, "count": count, "key": key, "percent": percent, "query": query}
        environment.filters.update(filters | {"size": readable_size, "span": span, "word": _LEVEL_WORDS.__getitem__})
        self._template = environment.get_template("status.html")
        self._images = environment.get_template("images.html")
        self._style, self._script = _part("status.css"), _part("status.js")
        self.policy = _POLICY.format(style=_hash(self._style), script=_hash(self._script))
        """The Content-Security-Policy: allows only this style and this script."""

    def render(self, status: Status, form: ExplainForm, links: Links) -> str:
        """The page."""
        return self._template.render(
            status=status,
            headline=headline(status),
            states=STATES,
            form=form,
            links=links,
            image_limit=IMAGE_LIMIT,
            client_limit=CLIENT_LIMIT,
            css=self._style,
            script=self._script,
        )

    def render_images(self, listed: CachedImages, links: Links) -> str:
        """The page of the cached images."""
        return self._images.render(listed=listed, links=links, pattern_limit=PATTERN_LIMIT, css=self._style)


@functools.cache
def page() -> Page:
    """The page of this process; the first call reads files."""
    return Page()


def headline(status: Status) -> str:
    """The overall state, in a few words."""
    bad = sum(finding.level is Level.BAD for finding in status.findings)
    if not bad:
        return "Working" if status.level is Level.OK else "Working, with warnings"
    if not status.process.ready:
        return "Not serving"
    return "Some pulls fail" if any(upstream.level is not Level.BAD for upstream in status.upstreams) else "Pulls fail"


def _part(name: str) -> str:
    return files(_PACKAGE).joinpath(_DIRECTORY, name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source expression of a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
