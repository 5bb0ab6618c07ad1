"""One HTTP request as data, and the paths of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote

import httpx2

from recall_client.pictures import Upload

Parameters: TypeAlias = "tuple[tuple[str, str], ...]"


@dataclass(frozen=True)
class Request:
    """An HTTP request. `hold` is how many seconds the server may hold its answer back."""

    method: str
    path: str
    parameters: Parameters = ()
    json: Mapping[str, Any] | None = None
    parts: tuple[tuple[str, Upload], ...] = ()
    content: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: float = 0.0

    @property
    def picture_bytes(self) -> int:
        """Size of all pictures together."""
        return sum(len(upload.data) for _, upload in self.parts)

    def http_arguments(self, timeout: float) -> dict[str, Any]:
        """Return the arguments of `httpx2.Client.build_request`; `timeout` is in seconds, without `hold`."""
        return {
            "method": self.method,
            "url": self.path,
            "params": self.parameters,
            "headers": dict(self.headers),
            "json": self.json,
            "content": self.content,
            "files": [(name, (upload.filename, upload.data)) for name, upload in self.parts] or None,
            "timeout": httpx2.Timeout(timeout, read=timeout + self.hold),
        }


def parameters(**values: str | float | None) -> Parameters:
    """Return the query parameters that are not None."""
    return tuple((name, str(value)) for name, value in values.items() if value is not None)


def bundle_path(name: str, part: str = "") -> str:
    """Return the path of a bundle, or of one `part` of it. Raises ValueError for a name that no bundle can have."""
    return f"/bundles/{_segment(name)}{part and '/' + part}"


def classifier_path(identifier: str, part: str = "") -> str:
    """Return the path of a classifier, or of one `part` of it. Raises ValueError for an impossible id."""
    return f"/classifier/{_segment(identifier)}{part and '/' + part}"


def _segment(name: str) -> str:
    """Return `name` as one segment of a path: "." and ".." would be steps, and "" another route."""
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is not the name of a bundle or the id of a classifier")
    return quote(name, safe="")
