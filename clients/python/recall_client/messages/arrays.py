"""Recalled images as exact floats with their targets, from safetensors. Needs NumPy."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from recall_client.errors import UnexpectedAnswer
from recall_client.messages.answers import parse_json
from recall_client.messages.models import BundleReference

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

_LENGTH_BYTES = 8  # a safetensors file starts with the length of its JSON header, as a little-endian integer


@dataclass(frozen=True, eq=False)
class RecalledArrays:
    """Recalled training data; row n of `targets` belongs to row n of `images`.

    images    float32 [N, channels, height, width]; pixels from 0 to 1, not clipped
    targets   float32 [N, k], the share of each label
    labels    names of the k columns of `targets`
    names     names of the queries, in the order of the request
    rows      per query, the memory's rows that its images come from; N rows in all
    """

    images: NDArray[numpy.float32] = field(repr=False)
    targets: NDArray[numpy.float32] = field(repr=False)
    labels: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    bundles: tuple[BundleReference, ...]
    seed: int | None

    def features(self) -> NDArray[numpy.float32]:
        """Return the images as rows [N, channels * height * width], the form that scikit-learn takes."""
        return self.images.reshape(len(self.images), -1)

    def classes(self) -> NDArray[numpy.intp]:
        """Return the index of the label with the largest share, per row [N]."""
        import numpy

        heaviest: NDArray[numpy.intp] = numpy.argmax(self.targets, axis=1)
        return heaviest

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `images`, `targets` and `labels` to `path`, a NumPy archive, and return the path.

        Raises ValueError for a name that does not end in .npz.
        """
        import numpy

        target = Path(path)
        if target.suffix != ".npz":
            raise ValueError(f"{target.name!r} must end in .npz")
        numpy.savez(target, images=self.images, targets=self.targets, labels=numpy.array(self.labels))
        return target


def require_numpy() -> None:
    """Raise ImportError that says what to install, unless NumPy is installed."""
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        raise ImportError("NumPy is needed for recalled arrays: pip install 'recall-client[images]'") from error


def recalled_arrays(content: bytes) -> RecalledArrays:
    """Read the server's safetensors answer. Raises UnexpectedAnswer for anything else."""
    try:
        header, data = _split(content)
        metadata = parse_json(header["__metadata__"]["recall"], _Metadata, of="the metadata of the recalled arrays")
        images, targets = _tensor(header["images"], data), _tensor(header["targets"], data)
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedAnswer(f"the recalled arrays are not the expected safetensors file: {error}") from error
    return RecalledArrays(images, targets, **dict(metadata))


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="ignore")

    labels: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    bundles: tuple[BundleReference, ...]
    seed: int | None


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header, memoryview(content)[_LENGTH_BYTES + length :]


def _tensor(entry: Mapping[str, Any], data: memoryview) -> NDArray[numpy.float32]:
    import numpy

    if entry["dtype"] != "F32":
        raise ValueError(f"a tensor has dtype {entry['dtype']}, not F32")
    start, end = entry["data_offsets"]
    return numpy.frombuffer(data[start:end], dtype="<f4").reshape(entry["shape"]).astype(numpy.float32)
