"""The web application: routes, limits and error handling around one service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from anyio import to_thread
from fastapi import FastAPI

from recall_server import __version__
from recall_server.api.guards.access import guard_unknown_paths
from recall_server.api.guards.admission import Admission
from recall_server.api.guards.answer_pace import AnswerPace
from recall_server.api.guards.body_limit import BodyLimits
from recall_server.api.guards.early import Early
from recall_server.api.guards.guard import Guard
from recall_server.api.guards.head_requests import HeadRequests
from recall_server.api.guards.observed import Observed
from recall_server.api.guards.prefix import Prefixed
from recall_server.api.http import problems
from recall_server.api.routes import bundles, classifiers, events, explain, operations, page, recall
from recall_server.api.schemas.operation_schemas import Live
from recall_server.api.state.context import Context
from recall_server.api.state.freed_memory import return_freed_memory
from recall_server.config.network_exposure import trusts_this_machine_only
from recall_server.core.scheduling import let_event_loop_first
from recall_server.service.service import RecallService


def create_app(service: RecallService) -> FastAPI:
    """An ASGI application that starts the service's jobs when it starts, and stops them when it stops."""
    settings, context = service.settings, Context.of(service)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(initializer=let_event_loop_first))
        returning = asyncio.create_task(return_freed_memory(context.busy, context.drop_unused, service.drop_unused))
        try:
            yield
        finally:
            returning.cancel()
            await to_thread.run_sync(service.stop)

    app = FastAPI(
        title="Memory recall",
        version=__version__,
        summary="Recall training images from distilled memories, and train fresh classifiers from them.",
        lifespan=lifespan,
        responses=problems.everywhere(),
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        openapi_url=None,  # a guarded route serves the document
        docs_url=None,  # the pages of FastAPI load scripts from other sites
        redoc_url=None,
        telemetry={"auto_configure": True},  # reads the variables OTEL_*; does nothing without them
    )
    app.state.context = context
    problems.install(app)
    for module in (recall, classifiers, explain, events, bundles, operations, page):
        app.include_router(module.router)
    guard_unknown_paths(app)
    # The middleware that is added last is the outermost.
    app.add_middleware(Early, routes=operations.LIVE_ROUTES, content=Live().model_dump_json().encode())
    admission, only_local = Admission(context), trusts_this_machine_only(settings)
    app.add_middleware(Guard, keys=settings.keys, admission=admission, only_local=only_local)
    app.add_middleware(BodyLimits, max_bytes=settings.max_body_bytes, max_seconds=settings.max_body_seconds)
    app.add_middleware(AnswerPace)
    app.add_middleware(HeadRequests)
    app.add_middleware(Observed, metrics=context.metrics)
    app.add_middleware(Prefixed, prefix=settings.root_path)
    return app
