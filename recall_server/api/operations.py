"""Health, information, and an index of the routes."""

from __future__ import annotations

import platform

import torch
from fastapi import APIRouter, Response

from recall_server import __version__
from recall_server.api.context import Served
from recall_server.api.schemas import Devices, Index, Info, Live, Readiness, RejectedFile

NAME = "recall-server"
LINKS = {
    "recall": "/recall?labels=",
    "classifier": "/classifier",
    "bundles": "/bundles",
    "ready": "/health/ready",
    "info": "/info",
    "openapi": "/openapi.json",
    "docs": "/docs",
}

router = APIRouter(tags=["operations"])


@router.get("/")
async def index() -> Index:
    """Where everything is."""
    return Index(name=NAME, version=__version__, links=LINKS)


@router.get("/health/live")
async def live() -> Live:
    """The server answers."""
    return Live()


@router.get("/health/ready", responses={503: {"model": Readiness, "description": "not yet, or not any more"}})
async def ready(response: Response, context: Served) -> Readiness:
    """Whether everything that this server is for can be done now, and if not, why."""
    library, worker = context.service.library, context.service.jobs.backend_state
    reasons = []
    if not library.bundles:
        reasons.append("no bundle is loaded")
    if worker == "failed":
        reasons.append("the training process cannot be started")
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
        worker=worker,
    )


@router.get("/info")
async def info(context: Served) -> Info:
    """Versions, devices really in use, and limits."""
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
            "picture_pixels": settings.max_picture_pixels,
            "pictures": settings.max_pictures,
            "classes": settings.max_classes,
            "recalled_numbers": settings.max_recalled_numbers,
            "wait_seconds": settings.max_wait_seconds,
        },
        bundles=len(service.library.bundles),
    )
