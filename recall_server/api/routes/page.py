"""The page, from files of the server: / for browsers, and what the page needs. Nothing is loaded from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from recall_server.api.guards.access import OPEN, GuardedRoute, access
from recall_server.api.http.negotiation import names_etag

MEDIA_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
# All of the page comes from this origin. It shows the user's pictures as blob: and recalled images as data: URIs.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

router = APIRouter(include_in_schema=False, route_class=GuardedRoute)


@router.get("/web/{name:path}")
@access(OPEN)
async def asset(name: str, request: Request) -> Response:
    """Return one of the page's files."""
    if name not in _files():
        raise HTTPException(404, f"the page has no file {name[:100]!r}")
    return page_file(name, request)


def page_file(name: str, request: Request) -> Response:
    """The file as a response, or a 304 for a browser that has it. Browsers ask at every visit."""
    content, etag = _files()[name]
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY, "Vary": "Accept"}
    if names_etag(request.headers, etag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=MEDIA_TYPES[name.rpartition(".")[2]], headers=headers)


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Content and strong ETag of every file by its path in the folder `web`, some ninety kilobytes, read once."""
    contents = dict(_contents(files("recall_server") / "web"))
    return {name: (content, f'"{hashlib.sha256(content).hexdigest()}"') for name, content in contents.items()}


def _contents(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of the page's files in this folder and its subfolders."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _contents(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in MEDIA_TYPES:
            yield prefix + entry.name, entry.read_bytes()
