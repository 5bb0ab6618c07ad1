"""Builds a valid bundle as plain bytes, with a parameter for each part that a hostile bundle changes.

The bytes are put together without the project's own writer and without the safetensors package. That makes them a
second implementation of the format, and allows files that no correct writer produces.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Json = dict[str, Any]
Numbers = tuple[list[int], list[float]]  # shape and values


class Whole(NamedTuple):
    """A tensor that is stored as int8."""

    shape: list[int]
    values: list[int]


class HostileBundle(NamedTuple):
    """A file, what is wrong with it, and the sentence with which `MemoryBundle.load` must refuse it."""

    name: str
    abuse: str
    sentence: str
    data: bytes

    @property
    def file(self) -> str:
        return f"{self.name}.safetensors"


MANIFEST: Json = {
    "accuracy": [],
    "budget": {"dataset_bytes": 3200, "images_per_class": 1.0, "numbers_stored": 20},
    "format_version": 3,
    "groups": {},
    "image": {"channels": 1, "height": 4, "width": 4},
    "labels": ["bear", "deer"],
    "memory": {"kind": "addressed_bases", "settings": {"height": 4, "targets": "hard", "width": 4}},
    "name": "hostile",
    "preprocessing": "standardise",
    "progress": {
        "minutes": 1.5,
        "validation": [
            {"accuracy": 0.5, "minutes": 0.0, "outer_steps": 0},
            {"accuracy": 0.75, "minutes": 1.5, "outer_steps": 10},
        ],
        "version": 2,
    },
    "provenance": {
        "code_version": "0.1.0",
        "dataset": "made up",
        "dataset_licence": "MIT",
        "dataset_sha256": "0" * 64,
        "date": "2026-11-21",
        "device": "cpu",
        "hyper_parameters": {"bases": 2},
        "method": "none",
        "outer_steps": 0,
        "seconds": 0.5,
        "seed": 0,
    },
    "queries": "labels",
    "query_encoder": None,
    "retraining": {
        "augmentation": "none",
        "decay": "constant",
        "initial": "random",
        "learning_rate": 0.01,
        "loss": "cross_entropy",
        "momentum": 0.9,
        "network": {"architecture": "convnet", "depth": 1, "filters": 4},
        "rows_per_class": 3,
        "steps": 10,
    },
    "space": "pixels",
}

# Two bases of 2x2 and three rows for each of two labels.
TENSORS: dict[str, Numbers] = {
    "addressing": ([3, 2, 2], [0.25 * index for index in range(12)]),
    "bases": ([2, 1, 2, 2], [0.5 * index for index in range(8)]),
    "preprocessing.deviation": ([1], [0.5]),
    "preprocessing.mean": ([1], [0.25]),
}


def build(  # one parameter for each part that can be wrong
    *,
    manifest: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Numbers | Whole | None] | None = None,
    header: Mapping[str, Any] | None = None,
    edit_manifest: Callable[[str], str] = str,
    edit_header: Callable[[str], str] = str,
    surplus: bytes = b"",
) -> bytes:
    """Return the valid bundle with its parts patched (see `patched`), its two texts edited, or bytes appended."""
    entries, body = Json(), b""
    for name, tensor in patched(TENSORS, tensors or {}).items():
        shape, values = tensor
        code, dtype = ("b", "I8") if isinstance(tensor, Whole) else ("f", "F32")
        data = struct.pack(f"<{len(values)}{code}", *values)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    entries["__metadata__"] = {"memory_bundle": edit_manifest(canonical(patched(MANIFEST, manifest or {})))}
    text = edit_header(json.dumps(patched(entries, header or {})))
    return frame(text.encode(), body + surplus)


def frame(header: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a file: the length of the header in eight bytes (or `length`, which may be wrong), header and body."""
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def patched(original: Mapping[str, Any], patch: Mapping[str, Any]) -> Json:
    """Apply a JSON merge patch (RFC 7396): objects merge, None deletes, anything else replaces."""
    result = dict(original)
    for key, value in patch.items():
        if value is None:
            del result[key]
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = patched(result[key], value)
        else:
            result[key] = value
    return result
