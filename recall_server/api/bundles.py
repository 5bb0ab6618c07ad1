"""GET /bundles and /bundles/{name}: what is loaded."""

from __future__ import annotations

from fastapi import APIRouter

from recall_server.api.context import Served
from recall_server.api.problems import responses
from recall_server.api.schemas import BundleDetails, BundleList, bundle_details, bundle_summary

router = APIRouter(tags=["bundles"])


@router.get("/bundles")
async def list_bundles(context: Served) -> BundleList:
    """All loaded bundles, in order of name."""
    return BundleList(bundles=[bundle_summary(loaded) for loaded in context.service.library.bundles.values()])


@router.get("/bundles/{name}", responses=responses(404, 422))
async def show_bundle(name: str, context: Served) -> BundleDetails:
    """One bundle with its whole manifest: accuracy, provenance, retraining."""
    return bundle_details(context.service.library.get(name))
