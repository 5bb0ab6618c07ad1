"""POST /classifier/{id}/explain: which recalled items moved a prediction."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from recall_server.api.guards.access import Access, GuardedRoute, access
from recall_server.api.http.bodies import form_of
from recall_server.api.http.problems import responses
from recall_server.api.http.unlabelled import PART, read_unlabelled
from recall_server.api.schemas.explanation_schemas import ExplanationAnswer
from recall_server.api.state.context import Served
from recall_server.config.api_keys import Scope
from recall_server.recall import Upload
from recall_server.service.explanations import Explanation

LABEL = "the class to explain; default: the most probable one"
TOP = "the number of items that spoke for the class, and of those that spoke against it"
MOST_ITEMS = 100  # of either kind

router = APIRouter(tags=["classifiers"], route_class=GuardedRoute)


@router.post(
    "/classifier/{identifier}/explain",
    response_class=Response,
    responses={
        200: {"model": ExplanationAnswer, "description": "the items, the strongest first"},
        **responses(400, 404, 408, 409, 413, 415, 422, 507),
    },
    openapi_extra=form_of(PART, {"type": "string", "format": "binary"}),
)
@access(Access(Scope.READ, "threads"))
async def explain(
    request: Request,
    identifier: str,
    context: Served,
    label: Annotated[str | None, Query(max_length=400, description=LABEL)] = None,
    top: Annotated[int, Query(ge=1, le=MOST_ITEMS, description=TOP)] = 5,
) -> Response:
    """Return the recalled items that spoke most for and against a class, for one picture.

    An item's influence is by how much the log-odds of the class fall when the head is trained without the item.
    """
    await context.look(context.service.jobs.finished_file, identifier)  # before a picture that could not be used
    pictures = await read_unlabelled(request, max_pictures=context.settings.max_pictures)
    context.pay(request, 1)

    def answer(upload: Upload) -> Explanation:
        return context.service.explainer.explain(identifier, pictures, label=label, top=top, upload=upload)

    explanation = await context.run_for(request, answer)
    return Response(ExplanationAnswer.of(explanation).model_dump_json(), media_type="application/json")
