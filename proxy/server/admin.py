"""The operator's own ports: metrics and health, with the status page or without it."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from proxy.metrics import render
from proxy.server.status_look import Look
from proxy.server.status_routes import status_routes


def admin_app(is_ready: Callable[[], bool], look: Look) -> web.Application:
    """What `metrics_app` serves, and the status page."""
    app = metrics_app(is_ready)
    app.add_routes(status_routes(look))
    return app


def metrics_app(is_ready: Callable[[], bool]) -> web.Application:
    """`/metrics`, `/healthz` (alive) and `/readyz` (serving; never an upstream's health), and nothing else."""

    async def metrics(request: web.Request) -> web.Response:
        page, media_type = await asyncio.to_thread(render, request.headers.get("Accept", ""))  # it reads files of /proc
        return web.Response(body=page, headers={"Content-Type": media_type})

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if is_ready() else web.Response(status=503, text="not serving\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthy), web.get("/readyz", ready)])
    return app
