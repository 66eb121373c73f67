"""The status page in a real Chromium: on a phone and on a desktop, light and dark, with everything that goes wrong."""

import importlib.util
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from proxy.testbed.images import make_image
from proxy.testbed.tokens import Rules
from tests.fakes.client import NodeClient, read_answer
from tests.fakes.matching import on
from tests.fakes.metered import Metered
from tests.fakes.proxy import ACCOUNT, LOGIN, NAME, REG, REWRITES, UPSTREAM, USER, authority, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.real.chromium import PROGRAM, Browser, Screen, Tab, browser
from tests.real.processes import free_port, scratch
from tests.real.programs import require, require_module
from tests.real.proxy_process import PROJECT_ROOT, serving_proxy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

PICTURES = PROJECT_ROOT / "dist" / "screenshots"
DEAD = "dead.example"
CHECKER = "axe_core_python"
SCREENS = tuple(
    Screen(f"{name}-{scheme}", width, height, name == "phone", scheme)
    for name, width, height in (("phone", 390, 844), ("desktop", 1440, 900))
    for scheme in ("light", "dark")
)
SMALLEST = Screen("smallest", 360, 640, mobile=True, scheme="light")
on_every_screen = pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)

TOO_WIDE = """[...document.querySelectorAll("body *")]
  .filter((one) => !one.closest(".hidden"))
  .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map((one) => one.outerHTML)"""
SHIFTS = """new Promise((done) => {
  let sum = 0;
  const add = (entries) => { for (const entry of entries) sum += entry.value; };
  const observer = new PerformanceObserver((list) => add(list.getEntries()));
  observer.observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => requestAnimationFrame(() => { add(observer.takeRecords()); done(sum); }));
})"""
JUMP = "document.querySelector('main').prepend(Object.assign(document.createElement('h2'), {textContent: 'surprise'}))"
FAULTS = """axe.run().then((found) => found.violations.filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => ({ id: one.id, help: one.help, where: one.nodes.map((node) => node.html) })))"""


@dataclass(frozen=True, slots=True)
class Site:
    """A proxy that has something to tell, and a node that makes it tell more."""

    url: str
    node: NodeClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    """A proxy with hits, refusals and an endpoint at which nobody listens."""
    require(PROGRAM)
    image = make_image(UPSTREAM, "1")
    async with ScriptedRegistry([image], Rules(accounts=(ACCOUNT,))) as registry:
        registry.script(on(kind="manifest").with_header("Authorization"), Metered(200, 77))
        with ExitStack() as stack:
            directory = stack.enter_context(scratch("cache"))
            registries = {
                REG: {"endpoints": [registry.url], "rewrites": list(REWRITES)},
                DEAD: {"endpoints": [f"http://127.0.0.1:{free_port()}"]},
            }
            hosts = {authority(registry.url): {"credentials": LOGIN}}
            proxy = stack.enter_context(serving_proxy(registries, hosts, cache={"path": str(directory / "cache")}))
            node = NodeClient(proxy.address)
            for _ in range(4):
                assert (await node.get(manifest())).status == 200
                assert (await node.get(blob(layer_of(image)[0]))).status == 200
            assert (await node.get(manifest("missing"))).status == 404
            assert (await node.get(manifest(registry=DEAD))).status == 503
            assert (await node.get(manifest(registry="unknown.example"))).status == 403
            yield Site(f"{proxy.admin_url}/status", node)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """The browser."""
    require(PROGRAM)
    async with browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def tab(chromium: Browser, site: Site) -> AsyncIterator[Tab]:
    """An empty page; whatever a test does, it asks nobody but the proxy and the console stays empty."""
    async with chromium.tab() as page:
        yield page
        assert {urlsplit(url).netloc for url in page.requests() if not url.startswith("data:")} == {
            urlsplit(site.url).netloc
        }
        assert page.errors() == []


@pytest.fixture(scope="module")
def checker() -> str:
    """axe-core, the accessibility checker, as one script."""
    require_module(CHECKER)
    found = importlib.util.find_spec(CHECKER)
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


@on_every_screen
async def test_cached_images_fit_the_screen_and_are_accessible(
    site: Site, tab: Tab, screen: Screen, checker: str
) -> None:
    await tab.show_on(screen)
    await tab.goto(f"{site.url}/images")
    assert f"{REG}/{NAME}:1" in await tab.text("main")
    assert await tab.evaluate(TOO_WIDE) == []
    await tab.evaluate(checker)
    assert await tab.evaluate(FAULTS) == []
    await tab.screenshot(PICTURES / f"images-{screen.name}.png")


@on_every_screen
async def test_says_what_a_person_wants_to_know_first(site: Site, tab: Tab, screen: Screen) -> None:
    await tab.show_on(screen)
    await tab.goto(site.url)
    verdict = await tab.text("#verdict")
    assert "Some pulls fail" in verdict
    assert f"Pulls from {DEAD} fail" in verdict
    assert "Connection refused" in verdict
    assert f"scope-proxy doctor {DEAD}" in verdict
    errors = await tab.text("#refusals")
    assert "registry unknown.example " in errors
    assert f"{REG}/library/app:missing" in errors
    limits = await tab.text("#limits")
    assert all(part in limits for part in (REG, USER, " of 200", "6 h"))
    figures = await tab.text("#figures")
    assert "6 pulls without upstream transfer" in figures
    assert await tab.evaluate("document.title") == "Some pulls fail - scope-proxy"
    await tab.screenshot(PICTURES / f"status-{screen.name}.png")


@pytest.mark.parametrize("screen", [*SCREENS, SMALLEST], ids=lambda screen: screen.name)
async def test_nothing_is_wider_than_the_screen_and_nothing_jumps(site: Site, tab: Tab, screen: Screen) -> None:
    await tab.show_on(screen)
    await tab.goto(f"{site.url}/explain?image={REG}/library/app:1")
    await tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert await tab.evaluate(TOO_WIDE) == []
    assert await tab.evaluate("document.documentElement.scrollWidth") <= screen.width
    await tab.goto(site.url)
    assert await tab.evaluate(SHIFTS) == 0


async def test_the_checks_of_layout_and_accessibility_see_faults(site: Site, tab: Tab, checker: str) -> None:
    await tab.show_on(SMALLEST)
    await tab.goto(site.url)
    await tab.evaluate(JUMP)
    assert await tab.evaluate(SHIFTS) > 0
    await tab.evaluate("document.getElementById('verdict').style.width = '400px'")
    assert await tab.evaluate(TOO_WIDE) != []
    await tab.evaluate("document.querySelector('label.wide').replaceWith(document.getElementById('explain-image'))")
    await tab.evaluate("document.getElementById('explain-image').removeAttribute('placeholder')")
    await tab.evaluate(checker)
    assert [fault["id"] for fault in await tab.evaluate(FAULTS)] == ["label"]


@on_every_screen
async def test_no_serious_fault_of_accessibility(site: Site, tab: Tab, screen: Screen, checker: str) -> None:
    await tab.show_on(screen)
    await tab.goto(f"{site.url}/explain?image={REG}/library/app:1")
    await tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    await tab.evaluate(checker)
    assert await tab.evaluate(FAULTS) == []


async def test_the_colours_follow_the_wish_for_dark(site: Site, tab: Tab) -> None:
    grounds = set()
    for screen in SCREENS:
        await tab.show_on(screen)
        await tab.goto(site.url)
        grounds.add((screen.scheme, await tab.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert len(grounds) == len({ground for _, ground in grounds}) == 2


async def test_the_keyboard_reaches_the_box_and_uses_it(site: Site, tab: Tab) -> None:
    await tab.show_on(SCREENS[0])
    await tab.goto(site.url)
    reached: list[str] = []
    while reached[-1:] != ["explain-image"]:
        await tab.press("Tab", 9)
        reached.append(await tab.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert len(reached) < 50, reached
    assert reached[0] == "pause"
    await tab.type(f"{REG}/library/app:1")
    await tab.press("Enter", 13)
    await tab.until("document.querySelector('#explain-result pre') !== null")
    result = await tab.text("#explain-result")
    assert f"repository:{UPSTREAM}:pull" in result
    assert f"/v2/{UPSTREAM}/manifests/1" in result
    assert urlsplit(await tab.evaluate("location.href")).path == "/status"
    await tab.screenshot(PICTURES / "status-explained.png")


async def test_refreshes_itself_and_leaves_alone_what_somebody_does(site: Site, tab: Tab) -> None:
    await tab.show_on(SCREENS[0])
    await tab.goto(site.url)
    await tab.evaluate("document.querySelector('#refusals details').open = true")
    opened = await tab.evaluate("document.querySelector('#refusals details').id")
    await tab.evaluate("document.getElementById('explain-image').focus()")
    await tab.type("half a na")
    await tab.evaluate("window.mark = true; scrollTo(0, 300)")
    assert (await site.node.get(manifest("newcomer"))).status == 404
    await tab.until("document.getElementById('refusals').textContent.includes('library/app:newcomer')")
    assert await tab.evaluate("window.mark") is True, "the page was loaded anew"
    assert await tab.evaluate("document.getElementById('explain-image').value") == "half a na"
    assert await tab.evaluate("document.activeElement.id") == "explain-image"
    assert await tab.evaluate(f"document.getElementById({json.dumps(opened)}).open") is True
    assert await tab.evaluate("scrollY") > 0


async def test_says_when_what_it_shows_is_old(site: Site, tab: Tab) -> None:
    await tab.goto(site.url)
    await tab.evaluate("window.fetch = () => Promise.reject(new TypeError('gone'))")
    await tab.until("document.getElementById('stale').textContent.includes('No response since')")
    assert "this page is out of date" in await tab.text("#stale")


async def test_with_several_workers_the_figures_are_those_of_all() -> None:
    with serving_proxy({REG: {"endpoints": [f"http://127.0.0.1:{free_port()}"]}}, workers=3) as proxy:
        node, admin = NodeClient(proxy.address), NodeClient(urlsplit(proxy.admin_url).netloc)
        for _ in range(12):
            assert (await node.get("/v2/")).status == 200
        async with admin.opened("GET", "/status.json", ("Connection", "close")) as (reader, _):
            status = json.loads((await read_answer(reader, "GET")).body)
    assert (status["process"]["workers"], status["figures"]["requests"]) == (3, 12)


async def test_works_without_scripts(site: Site, tab: Tab) -> None:
    await tab.send("Emulation.setScriptExecutionDisabled", value=True)
    await tab.goto(f"{site.url}/explain?image={REG}/library/app:1")
    tree = await tab.send("DOM.getDocument", depth=0)
    found = await tab.send("DOM.querySelector", nodeId=tree["root"]["nodeId"], selector="#explain-result pre")
    html = await tab.send("DOM.getOuterHTML", nodeId=found["nodeId"])
    assert f"repository:{UPSTREAM}:pull" in html["outerHTML"]
    await tab.goto(site.url)
    tree = await tab.send("DOM.getDocument", depth=0)
    found = await tab.send("DOM.querySelector", nodeId=tree["root"]["nodeId"], selector="meta[http-equiv=refresh]")
    assert found["nodeId"] != 0
