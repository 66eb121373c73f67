"""The HTML of the status page: whatever others chose stands in it as text."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from proxy.config.base import readable_size
from proxy.server.status.collector import CLIENT_LIMIT, IMAGE_LIMIT, ExplainForm, explain
from proxy.server.status.findings import with_findings
from proxy.server.status.page import Page, clock, count, percent, span
from proxy.server.status.values import Certificate, Links, ListenerStatus, Reload, StoreUsage
from proxy.upstream.endpoints import EndpointState
from proxy.upstream.rate_limits import RateLimitStatus
from tests.unit.routing.support import loaded
from tests.unit.server.statuses import NOW, process, refusal, status, upstream

LINKS = Links("status", "status.json", "status/explain", "status/images")
WILD = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"
VOID = {"meta", "link", "input"}


class Reader(HTMLParser):
    """Reads a page: its elements, its text, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def wild_page() -> str:
    made = status(
        process=process(version=WILD, workers=4),
        upstreams=(upstream(WILD, EndpointState.COOLING, EndpointState.REFUSING, error=WILD),),
        refusals=tuple(
            refusal(image=f"{WILD}{number}", **dict.fromkeys(("reason", "rule", "scope", "url", "client"), WILD))
            for number in range(12)
        ),
        store=StoreUsage(WILD, 10, None, None, WILD),
        rate_limits=(RateLimitStatus(WILD, WILD, None, None, None, NOW, NOW, low=True),),
        listeners=(ListenerStatus(WILD, tls=True, auth=(WILD,)),),
        certificates=(Certificate(WILD, NOW - 1),),
        reload=Reload(NOW, (WILD,)),
        warnings=(WILD,),
        configuration=WILD,
        waiting=(WILD,),
        tls_problems=(WILD,),
    )
    return Page().render(with_findings(made), ExplainForm(WILD, WILD, WILD, WILD), LINKS)


def test_nothing_that_others_chose_becomes_an_element() -> None:
    reader = read(wild_page())
    assert [name for name, _ in reader.elements].count("script") == 1
    assert "img" not in {name for name, _ in reader.elements}
    assert not [name for _, attributes in reader.elements for name in attributes if name.startswith("on")]
    assert "".join(reader.texts).count("<script>alert(1)</script>") > 30


def test_ids_are_there_once_and_labels_lead_somewhere() -> None:
    elements = read(wild_page()).elements
    ids = [str(attributes["id"]) for _, attributes in elements if "id" in attributes]
    assert sorted(ids) == sorted(set(ids))
    named = {attributes[key] for _, attributes in elements for key in ("for", "aria-labelledby") if key in attributes}
    assert named <= set(ids)


def test_every_link_stays_here() -> None:
    elements = read(wild_page()).elements
    leads = [
        attributes[key] or "" for _, attributes in elements for key in ("href", "src", "action") if key in attributes
    ]
    assert leads
    assert {lead.partition("?")[0] for lead in leads} == {"data:,", "status.json", "status/explain", "status/images"}


def test_the_policy_names_this_style_and_this_script_and_nothing_else() -> None:
    page = Page()
    html = page.render(status(), ExplainForm(), LINKS)
    for element in ("style", "script"):
        (text,) = re.findall(f"<{element}>(.*?)</{element}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in page.policy
    assert page.policy.startswith("default-src 'none'; ")
    assert "unsafe" not in page.policy
    assert not [attributes for _, attributes in read(html).elements if "style" in attributes]


def test_a_page_without_anything_to_tell_is_a_page() -> None:
    made = status(upstreams=(), store=None, listeners=())
    text = " ".join(read(Page().render(made, ExplainForm(), LINKS)).texts)
    for words in ("Working", "None since the start.", "No registry is configured", "No cache is configured"):
        assert words in text


def test_older_errors_are_folded_away() -> None:
    page = Page()
    few = page.render(status(refusals=tuple(refusal(image=str(number)) for number in range(10))), ExplainForm(), LINKS)
    many = page.render(status(refusals=tuple(refusal(image=str(number)) for number in range(12))), ExplainForm(), LINKS)
    assert ('id="older"' in few, "2 older" in many) == (False, True)


def test_with_several_workers_the_page_says_whose_it_is() -> None:
    text = "".join(read(Page().render(status(process=process(workers=3, pid=99)), ExplainForm(), LINKS)).texts)
    assert "Served by one of 3 workers (process 99)" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (span(0.4), "0 s"),
        (span(119), "119 s"),
        (span(120), "2 min"),
        (span(3 * 86400 + 5), "3 d"),
        (span(-3), "0 s"),
        (readable_size(0), "0 B"),
        (readable_size(1536), "1.5 KiB"),
        (readable_size(5 << 50), "5120.0 TiB"),
        (count(1234567), "1\N{NO-BREAK SPACE}234\N{NO-BREAK SPACE}567"),
        (percent(None), "\N{EN DASH}"),
        (percent(2 / 3), "66.7 %"),
        (clock(NOW), "2023-11-14T22:13:20Z"),
    ],
)
def test_words_for_figures(text: str, words: str) -> None:
    assert text == words


REGISTRIES = "reg.example: {endpoints: ['https://up.example'], rewrites: [{pattern: '^a/', replacement: 'team/'}]}"
ACCESS = "access: [{action: allow, registries: reg.example, repositories: a/app, clients: ci}]"


def test_explains_as_the_command_does() -> None:
    form = explain(loaded(REGISTRIES), " reg.example/a/app:1 ", "")
    assert (form.error, form.image) == ("", "reg.example/a/app:1")
    assert "  requested scope           repository:team/app:pull" in form.text.splitlines()
    assert form.data is not None
    assert form.data["endpoints"][0]["scope"] == "repository:team/app:pull"


def test_explains_for_a_client() -> None:
    source = loaded(REGISTRIES, ACCESS)
    assert "ci may pull" in explain(source, "reg.example/a/app", "ci").text
    assert "anonymous may not pull" in explain(source, "reg.example/a/app", "").text


@pytest.mark.parametrize(
    ("image", "client", "words"),
    [
        ("", "", "enter an image name"),
        ("a" * (IMAGE_LIMIT + 1), "", "longer than"),
        ("reg.example/a", "c" * (CLIENT_LIMIT + 1), "longer than"),
        ("reg.example/<script>", "", "NAME_INVALID"),
        ("reg.example/a@sha256:1", "", "DIGEST_INVALID"),
        ("no.example/a", "", "not configured"),
        ("\udcff\x00", "", "NAME_INVALID"),
    ],
)
def test_what_cannot_be_explained_says_why(image: str, client: str, words: str) -> None:
    form = explain(loaded(REGISTRIES), image, client)
    assert words in form.error
    assert (form.text, len(form.image) <= IMAGE_LIMIT, len(form.client) <= CLIENT_LIMIT) == ("", True, True)
    assert form.error.isprintable()
    assert Page().render(status(), form, LINKS).encode()
