"""A real Chromium, driven over its DevTools protocol."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from proxy.transport.singleflight import Background
from tests.real.processes import Process, scratch

WITHIN = 30.0
"""Seconds after which whatever a page was waited for counts as missing."""
MESSAGE_LIMIT = 64 << 20
"""Bytes of one message; a screenshot is one."""
PROGRAM = "chromium"
_PORT_FILE = "DevToolsActivePort"
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)
_UNTIL = """new Promise((done) => {
  const look = () => {
    if (!(%s)) return;
    observer.disconnect();
    done(true);
  };
  const observer = new MutationObserver(look);
  observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  look();
})"""


@dataclass(frozen=True, slots=True)
class Screen:
    """The screen of a page."""

    name: str
    width: int
    height: int
    mobile: bool
    scheme: str


class Tab:
    """One page of a browser, and all that it did."""

    def __init__(self, link: "_Link", session: str) -> None:
        self._link = link
        self._session = session

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol; RuntimeError where it fails."""
        return await self._link.send(method, parameters, self._session)

    async def goto(self, url: str) -> None:
        """Open an address and wait until it is loaded."""
        loaded = self._link.next("Page.loadEventFired", self._session)
        await self.send("Page.navigate", url=url)
        async with asyncio.timeout(WITHIN):
            await loaded

    async def show_on(self, screen: Screen) -> None:
        """Display the page on a screen from now on."""
        size = {"width": screen.width, "height": screen.height, "deviceScaleFactor": 1, "mobile": screen.mobile}
        await self.send("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": screen.scheme}]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise; RuntimeError with what it throws."""
        answer = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until the expression holds, as seen whenever the page changes; TimeoutError."""
        async with asyncio.timeout(WITHIN):
            await self.evaluate(_UNTIL % expression)

    async def text(self, selector: str = "body") -> str:
        """What of an element a person can read."""
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def type(self, text: str) -> None:
        """Type a text where the focus is."""
        await self.send("Input.insertText", text=text)

    async def press(self, key: str, code: int) -> None:
        """Press a key that is none of a text, by its name and number."""
        names = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if key == "Enter" else {}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **names, **text)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **names)

    async def screenshot(self, path: Path) -> None:
        """Keep a picture of the whole page."""
        answer = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        await asyncio.to_thread(_keep, path, base64.b64decode(answer["data"]))

    def requests(self) -> list[str]:
        """The addresses of all that the page has requested, data URLs among them."""
        events = self._link.seen("Network.requestWillBeSent", self._session)
        return [event["request"]["url"] for event in events]

    def errors(self) -> list[str]:
        """What the console shows as an error: of scripts, of loading, of the content policy."""
        thrown = [json.dumps(event) for event in self._link.seen("Runtime.exceptionThrown", self._session)]
        calls = self._link.seen("Runtime.consoleAPICalled", self._session)
        written = [json.dumps(event["args"]) for event in calls if event["type"] in {"error", "assert"}]
        entries = (event["entry"] for event in self._link.seen("Log.entryAdded", self._session))
        logged = [f"{entry['text']} {entry.get('url', '')}" for entry in entries if entry["level"] == "error"]
        return [*thrown, *written, *logged]


@dataclass(slots=True)
class _Link:
    """The connection to the browser."""

    socket: aiohttp.ClientWebSocketResponse
    _number: int = 0
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    _awaited: list[tuple[str, str, asyncio.Future[None]]] = field(default_factory=list)

    async def send(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self._number += 1
        number = self._number
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self.socket.send_json(message if session is None else {**message, "sessionId": session})
        async with asyncio.timeout(WITHIN):
            found = await answer
        if "error" in found:
            raise RuntimeError(f"{method}: {found['error']}")
        result: dict[str, Any] = found["result"]
        return result

    def next(self, event: str, session: str) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited.append((event, session, future))
        return future

    def seen(self, event: str, session: str) -> list[dict[str, Any]]:
        return [parameters for name, of, parameters in self._events if (name, of) == (event, session)]

    async def read(self) -> None:
        """Take all that comes, until the browser has ended."""
        async for message in self.socket:
            self._take(message.json())

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            answer = self._answers.pop(message["id"])
            if not answer.done():
                answer.set_result(message)
            return
        name, session = message["method"], message.get("sessionId", "")
        self._events.append((name, session, message.get("params", {})))
        for awaited in [item for item in self._awaited if item[:2] == (name, session)]:
            self._awaited.remove(awaited)
            awaited[2].set_result(None)


class Browser:
    """A running browser with an empty profile."""

    def __init__(self, link: _Link) -> None:
        self._link = link

    @contextlib.asynccontextmanager
    async def tab(self) -> AsyncIterator[Tab]:
        """A new page in a context of its own; everything that it does is noted."""
        context = (await self._link.send("Target.createBrowserContext", {}))["browserContextId"]
        made = await self._link.send("Target.createTarget", {"url": "about:blank", "browserContextId": context})
        attach = {"targetId": made["targetId"], "flatten": True}
        tab = Tab(self._link, (await self._link.send("Target.attachToTarget", attach))["sessionId"])
        for domain in ("Page", "Runtime", "Network", "Log"):
            await tab.send(f"{domain}.enable")
        yield tab
        await self._link.send("Target.disposeBrowserContext", {"browserContextId": context})


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start Chromium with an empty profile, and end it."""
    with scratch("chromium") as directory:
        environment = {"HOME": str(directory), "XDG_CONFIG_HOME": str(directory), "XDG_CACHE_HOME": str(directory)}
        arguments = (PROGRAM, *_ARGUMENTS, f"--user-data-dir={directory / 'profile'}")
        process = Process(arguments, log=directory / "log", env=environment)
        background = Background()
        port_file = directory / "profile" / _PORT_FILE
        try:
            await asyncio.to_thread(process.wait_ready, lambda: _is_written(port_file), WITHIN)
            port, path = port_file.read_text().splitlines()
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=MESSAGE_LIMIT) as socket,
            ):
                link = _Link(socket)
                background.start(link.read())
                yield Browser(link)
        finally:
            await background.close()
            await asyncio.to_thread(process.stop)


def _keep(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _is_written(port_file: Path) -> bool:
    return port_file.exists() and port_file.read_text().count("\n") == 1
