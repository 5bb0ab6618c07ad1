"""Checkpoints: one safetensors file with everything that a run needs to continue and end in the same result.

It is written atomically and holds the description of its run, so that a checkpoint of another run is refused with the
name of the setting that differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recall_server.core.io import tensor_file
from recall_server.core.io.atomic import write_atomically
from recall_server.errors import InvalidCheckpoint

FORMAT = 2
LIMITS = tensor_file.FileLimits(file_bytes=2**31, numbers=2**29)


@dataclass(frozen=True)
class Checkpoint:
    """`run` describes the run and must be the same on resume; `tensors` are its state, `progress` how far it is."""

    run: Mapping[str, Any]
    progress: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def save(self, path: Path) -> None:
        """Write atomically. Raises StorageFailed if that fails; the previous checkpoint then stays."""
        document = {"format": FORMAT, "run": dict(self.run), "progress": dict(self.progress)}
        text = tensor_file.canonical_json(document)
        write_atomically(path, tensor_file.pack(self.tensors, key="checkpoint", text=text))

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint. Raises InvalidCheckpoint if it is missing, damaged or of another format."""
        try:
            data = tensor_file.read_bounded(path, LIMITS.file_bytes)
            dtypes = frozenset(tensor_file.ELEMENT_BYTES)
            tensors, text = tensor_file.unpack(data, key="checkpoint", limits=LIMITS, dtypes=dtypes)
            document = tensor_file.parse_json(text)
            if document["format"] != FORMAT:
                raise ValueError(f"its format is {document['format']}, this code's {FORMAT}")
            return cls(document["run"], document["progress"], tensors)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidCheckpoint(f"{path.name} is not a checkpoint that can be resumed: {error}") from error

    def require(self, run: Mapping[str, Any]) -> None:
        """Raise InvalidCheckpoint, naming the first difference, if the checkpoint is of another run.

        A setting that only one of the two knows comes from another version of this code.
        """
        theirs, ours = json.loads(json.dumps(dict(self.run))), json.loads(json.dumps(dict(run)))
        for key in sorted(theirs.keys() ^ ours.keys()):
            where = "the checkpoint does not say" if key in ours else "this version does not know"
            raise InvalidCheckpoint(
                f"the checkpoint is of another version of this code: {where} {key}; finish the run with the version "
                "that began it, or start anew without --resume"
            )
        for key in sorted(theirs):
            if theirs.get(key) != ours.get(key):
                raise InvalidCheckpoint(
                    f"the checkpoint belongs to another run: its {key} is {theirs.get(key)!r}, "
                    f"this run's is {ours.get(key)!r}; use the same options, or start anew without --resume"
                )
