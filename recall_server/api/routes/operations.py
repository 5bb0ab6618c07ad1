"""Health, information, metrics, and an index of the routes."""

from __future__ import annotations

import platform
from typing import Any

import torch
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from recall_server import __version__
from recall_server.api.guards.access import OPEN, READ, GuardedRoute, access
from recall_server.api.http.bodies import LARGEST_JSON
from recall_server.api.http.negotiation import accepted
from recall_server.api.http.problems import responses
from recall_server.api.routes.page import page_file
from recall_server.api.schemas.operation_schemas import Devices, Index, Info, Live, Readiness, RejectedFile, Worker
from recall_server.api.state.context import Context, Served
from recall_server.api.state.metrics import MEDIA_TYPE

JSON, HTML = "application/json", "text/html"
NAME = "recall-server"
LINKS = {
    "recall": "/recall?labels=",
    "classifier": "/classifier",
    "bundles": "/bundles",
    "ready": "/health/ready",
    "info": "/info",
    "metrics": "/metrics",
    "openapi": "/openapi.json",
}

PROMETHEUS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Readiness, "description": "not yet, or not any more"}}

PAGE: dict[int | str, dict[str, Any]] = {
    200: {"description": "the index, or the page", "content": {HTML: {"schema": {"type": "string"}}}},
    304: {"description": "the version in If-None-Match is current"},
    **responses(406),
}

router = APIRouter(tags=["operations"], route_class=GuardedRoute)


@router.get("/", response_model=Index, responses=PAGE)
@access(OPEN)
async def index(request: Request, response: Response, context: Served) -> Index | Response:
    """Return the addresses of all routes; for a browser, the page."""
    if accepted(request, (JSON, HTML)) == HTML:
        return page_file("index.html", request)
    response.headers["Vary"] = "Accept"
    root = context.settings.root_path
    return Index(name=NAME, version=__version__, links={name: root + path for name, path in LINKS.items()})


@router.get("/openapi.json", include_in_schema=False)
@access(OPEN)
async def openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/v2/health/live")
@router.get("/health/live")
@access(OPEN)
async def live() -> Live:
    """Answer as long as the server runs."""
    return Live()


LIVE_ROUTES = [route for route in router.routes if isinstance(route, APIRoute) and route.endpoint is live]


@router.get("/v2/health/ready", responses=NOT_READY)
@router.get("/health/ready", responses=NOT_READY)
@access(OPEN)
async def ready(response: Response, context: Served) -> Readiness:
    """Say whether the server can do all its work now and, if not, why."""
    jobs, library = context.service.jobs, context.service.library
    room, worker = jobs.room(), jobs.backend_state
    reasons = _reasons(context, room.reason)
    starting = not reasons and worker == "warming"
    if starting:
        reasons.append("the training process is warming up")
    if reasons:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return Readiness(
        status="starting" if starting else "not ready" if reasons else "ready",
        reasons=reasons,
        bundles=list(library.bundles),
        rejected=[RejectedFile(file=each.file, reason=each.reason) for each in library.rejected],
        encoders={name: loaded.encoder.provider for name, loaded in library.bundles.items() if loaded.encoder},
        worker=worker,
        workers=len(jobs.workers),
        queued=room.queued,
        queue_limit=room.limit,
    )


def _reasons(context: Context, no_room: str) -> list[str]:
    """Why the server is not ready. Bundles are loaded only after their verification and a run of their encoder."""
    reasons = []
    if no_room == "draining":
        reasons.append("the server is stopping")
    if no_room == "storage":
        reasons.append("the job table or the state folder cannot be used")
    if not context.service.library.bundles:
        reasons.append("no bundle is loaded")
    if context.service.jobs.backend_state == "failed":
        fault = next((worker.fault for worker in context.service.jobs.workers if worker.fault), None)
        reasons.append("the training process cannot be started" + (f": {fault}" if fault else ""))
    if context.disk_is_low():
        reasons.append(f"the disk has less than {context.settings.min_free_bytes // 2**20} MiB free")
    return reasons


@router.get("/metrics", response_class=Response, responses=PROMETHEUS)
@access(READ)
async def metrics(context: Served) -> Response:
    """Return metrics for Prometheus."""
    return Response(await context.look(context.metrics.text), headers={"Content-Type": MEDIA_TYPE})


@router.get("/info")
@access(READ)
async def info(context: Served) -> Info:
    """Return versions, the devices in use, and limits."""
    service, settings = context.service, context.settings
    providers = sorted({loaded.encoder.provider for loaded in service.library.bundles.values() if loaded.encoder})
    return Info(
        name=NAME,
        version=__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        device=Devices(
            requested=settings.device, training=service.jobs.device, query_encoder=", ".join(providers) or None
        ),
        limits={
            "body_bytes": settings.max_body_bytes,
            "json_bytes": LARGEST_JSON,
            "body_seconds": settings.max_body_seconds,
            "picture_pixels": settings.max_picture_pixels,
            "request_pixels": settings.max_request_pixels,
            "pictures": settings.max_pictures,
            "classes": settings.max_classes,
            "recalled_numbers": settings.max_recalled_numbers,
            "wait_seconds": settings.max_wait_seconds,
            "queue": service.jobs.room().limit,
            "queue_seconds": settings.queue_seconds,
            "training_seconds": settings.training_seconds,
        },
        rates={"requests": settings.request_rate or None, "pictures": settings.work_rate or None},
        bundles=len(service.library.bundles),
        workers=[Worker(state=each.state, device=each.device, node=each.node) for each in service.jobs.workers],
    )
