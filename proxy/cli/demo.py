"""`scope-proxy demo`: the scope bug and its fix, on an embedded strict registry."""

import asyncio
import re
import signal
from collections.abc import Sequence
from urllib.parse import unquote

import click
from rich.console import Console
from rich.table import Table

from proxy.cli.options import threads_or_exit
from proxy.demo.story import CASES, Case, Stage, StageResult, pull_directly, pull_through_proxy, stage
from proxy.testbed.images import Image

_LONG_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")

EXIT_NOT_EXACT = 1
"""Exit status when a pull through the proxy is not byte-exact."""


@click.command()
@click.option("--keep", is_flag=True, help="Keep everything running and print commands to try.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the proxy; 0 picks a free one.")
def demo(*, keep: bool, port: int) -> None:
    """Show how an unpatched node fails at a strict registry, and how it pulls through the proxy."""
    with threads_or_exit():
        status = asyncio.run(run_demo(Console(soft_wrap=True, highlight=False), keep=keep, port=port))
    raise click.exceptions.Exit(status)


async def run_demo(console: Console, *, keep: bool, port: int, images: Sequence[Image] | None = None) -> int:
    """Run the demo against a registry with these images, or else with the demo's; the exit status."""
    async with stage(port, images) as here:
        console.print(f"A strict registry listens on {here.registry.url}, scope-proxy on {here.proxy_url}.\n")
        pairs = [(case, await pull_directly(here, case), await pull_through_proxy(here, case)) for case in CASES]
        for case, direct, proxied in pairs:
            _print_case(console, case, direct, proxied)
        good = all(not direct.exact and proxied.exact for _, direct, proxied in pairs)
        _print_summary(console, pairs, good=good)
        if keep:
            _print_hints(console, here)
            await _interrupted()
    return 0 if good else EXIT_NOT_EXACT


async def _interrupted() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def _print_case(console: Console, case: Case, direct: StageResult, proxied: StageResult) -> None:
    console.rule(f"[bold]{case.image}[/bold]", align="left")
    console.print(f"rule on the node, then in the proxy: {case.pattern} -> {case.replacement}", markup=False)
    console.print("\n1. An unpatched node rewrites by itself and pulls from the registry with valid credentials:")
    _print_steps(console, direct)
    console.print(f"   {direct.error or 'it pulled: this registry is not strict'}\n", style="red", markup=False)
    console.print("2. The same node, without rewrite and credentials, pulls through the proxy:")
    _print_steps(console, proxied)
    verdict = f"{proxied.received} bytes, identical to the registry's" if proxied.exact else proxied.error
    console.print(f"   {verdict}\n", style="green" if proxied.exact else "red", markup=False)


def _print_steps(console: Console, outcome: StageResult) -> None:
    for step in outcome.steps:
        line = _LONG_DIGEST.sub(r"\1...", unquote(step.line))
        console.print(f"   {line}  {step.status}", markup=False)


def _print_summary(console: Console, pairs: list[tuple[Case, StageResult, StageResult]], *, good: bool) -> None:
    console.rule("[bold]Requests to the token server[/bold]", align="left")
    for case, direct, proxied in pairs:
        table = Table(title=case.image, title_justify="left", title_style="bold", expand=True)
        table.add_column("by the unpatched node", overflow="fold", style="red", ratio=1)
        table.add_column("by scope-proxy", overflow="fold", style="green", ratio=1)
        table.add_row(_requested_scopes(direct), _requested_scopes(proxied))
        console.print(table)
    verdict = "The node fails, the proxy's pull is byte-exact." if good else "The demo failed."
    console.print(verdict, style="bold green" if good else "bold red")


def _requested_scopes(outcome: StageResult) -> str:
    requests = (
        "\n".join((*request.scopes, f"  {request.method}: {request.status}")) for request in outcome.token_requests
    )
    return "\n\n".join(requests) or "nothing"


def _print_hints(console: Console, here: Stage) -> None:
    address = here.proxy_url.removeprefix("http://")
    case = CASES[0]
    lines = f"""
Everything keeps running until Ctrl-C. Try:

  curl -i '{here.proxy_url}/v2/{case.repository}/manifests/{case.tag}?ns={case.registry}'
  skopeo inspect --tls-verify=false docker://{address}/{case.registry}/{case.repository}:{case.tag}

/etc/containerd/certs.d/{case.registry}/hosts.toml (then: crictl pull {case.image})

  server = "{here.proxy_url}"
  capabilities = ["pull", "resolve"]
  [host]

The proxy's configuration:

{here.config}"""
    console.print(lines, markup=False)
