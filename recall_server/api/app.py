"""The web application: routes, limits and error handling around one service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from anyio import to_thread
from fastapi import FastAPI
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from recall_server import __version__
from recall_server.api import bundles, classifiers, operations, problems, recall
from recall_server.api.body_limit import DeclaredBodyLimit
from recall_server.api.context import Context
from recall_server.service import RecallService


def create_app(service: RecallService) -> FastAPI:
    """An ASGI application that starts the service's jobs when it starts, and stops them when it stops."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.jobs.start()
        try:
            yield
        finally:
            await to_thread.run_sync(service.jobs.stop)

    app = FastAPI(
        title="Memory recall",
        version=__version__,
        summary="Recall training images from distilled memories, and train fresh classifiers from them.",
        lifespan=lifespan,
        responses=problems.any_problem(),
    )
    app.state.context = Context(service)
    problems.install(app)
    for router in (recall.router, classifiers.router, bundles.router, operations.router):
        app.include_router(router)
    # Added last is outermost: what is declared is checked before what arrives is counted.
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=service.settings.max_body_bytes)
    app.add_middleware(DeclaredBodyLimit, max_bytes=service.settings.max_body_bytes)
    return app
