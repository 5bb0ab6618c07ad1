"""Recalled images as exact floats, for those who train with them. Needs NumPy."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from recall_client.errors import UnexpectedAnswer
from recall_client.messages.models import BundleReference

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

_LENGTH_BYTES = 8  # a safetensors file starts with the length of its JSON header, as a little-endian integer


@dataclass(frozen=True, eq=False)
class RecalledArrays:
    """Recalled training data: row n of `images` belongs to row n of `targets`.

    images    float32 [N, channels, height, width] in pixel space: 0 to 1, not clipped
    targets   float32 [N, k], the share of each of `labels`
    labels    the k columns of `targets`
    names     one per query, in the order asked
    rows      for each query, the memory's rows behind its images; N is how many they are together
    """

    images: NDArray[numpy.float32] = field(repr=False)
    targets: NDArray[numpy.float32] = field(repr=False)
    labels: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    bundles: tuple[BundleReference, ...]
    seed: int | None

    def features(self) -> NDArray[numpy.float32]:
        """The images as rows of numbers [N, channels * height * width], as scikit-learn wants them."""
        return self.images.reshape(len(self.images), -1)

    def classes(self) -> NDArray[numpy.intp]:
        """The heaviest label of each row as an index into `labels` [N]: exact for labels, a choice for mixtures."""
        import numpy

        heaviest: NDArray[numpy.intp] = numpy.argmax(self.targets, axis=1)
        return heaviest

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `images`, `targets` and `labels` as a NumPy archive to `path`, which must end in .npz; return it."""
        import numpy

        target = Path(path)
        if target.suffix != ".npz":
            raise ValueError(f"{target.name!r} must end in .npz")
        numpy.savez(target, images=self.images, targets=self.targets, labels=numpy.array(self.labels))
        return target


def require_numpy() -> None:
    """Refuse early, before anything is asked of the server, where NumPy is not installed."""
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        raise ImportError("NumPy is needed for recalled arrays: pip install 'recall-client[images]'") from error


def recalled_arrays(content: bytes) -> RecalledArrays:
    """Read the server's safetensors answer. Raises UnexpectedAnswer for anything else."""
    try:
        header, data = _split(content)
        metadata = _Metadata.model_validate_json(header["__metadata__"]["recall"])
        images, targets = _tensor(header["images"], data), _tensor(header["targets"], data)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise UnexpectedAnswer(f"the recalled arrays are not a safetensors file of this kind: {error}") from error
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
        raise ValueError("its header is no JSON object")
    return header, memoryview(content)[_LENGTH_BYTES + length :]


def _tensor(entry: Mapping[str, Any], data: memoryview) -> NDArray[numpy.float32]:
    import numpy

    if entry["dtype"] != "F32":
        raise ValueError(f"a tensor of {entry['dtype']} where F32 belongs")
    start, end = entry["data_offsets"]
    return numpy.frombuffer(data[start:end], dtype="<f4").reshape(entry["shape"]).astype(numpy.float32)
