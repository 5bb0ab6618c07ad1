"""A memory bundle: one .safetensors file with a memory, its preprocessing and a manifest (artifacts/README.md).

Loading checks the tensors against the manifest. Saving loads its own bytes before it writes them, so every saved bundle
can be loaded.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, final

import torch
from torch import Tensor

from recall_server.core.bundle.checks import check_memory, check_preprocessing, check_queries, network_of
from recall_server.core.bundle.manifest import Manifest, MeasuredAccuracy
from recall_server.core.io.atomic import write_atomically
from recall_server.core.io.tensor_file import DEFAULT_LIMITS, FLOATS, FileLimits, pack, printable, read_bounded, unpack
from recall_server.core.memory import BASES, MEMORIES, AbstractMemory, LazilyRecalled, Recalled, Storage
from recall_server.core.memory.storage import dequantise, quantise
from recall_server.core.preprocessing import PREPROCESSINGS, AbstractPreprocessing, Projected, Standardise
from recall_server.errors import InvalidBundle, InvalidRequest, NotFound, UnknownLabel, UnsupportedQuery

__all__ = ["DEFAULT_LIMITS", "METADATA_KEY", "FileLimits", "MemoryBundle"]

METADATA_KEY = "memory_bundle"
PREFIX = "preprocessing."
TYPES = FLOATS | {"I8"}  # of elements
LARGEST_MAGNITUDE = 1e6  # of a stored number; keeps recalled images finite in float32


@final
@dataclass(frozen=True, eq=False)
class MemoryBundle:
    """A memory with its manifest and preprocessing. `sha256` and `file_bytes` are None until there is a file.

    `storage` is the number format of the memory in the file; other formats than float32 round the numbers when saving.
    Raises InvalidBundle, with one sentence, if the manifest does not match the tensors.
    """

    manifest: Manifest
    memory: AbstractMemory
    preprocessing: AbstractPreprocessing
    storage: Storage = "float32"
    sha256: str | None = None
    file_bytes: int | None = None

    def __post_init__(self) -> None:
        check_memory(self.manifest, self.memory)
        check_queries(self.manifest, self.memory)
        check_preprocessing(self.manifest, self.memory, self.preprocessing)
        network_of(self.manifest)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    def to_bytes(self) -> bytes:
        """The file as bytes: the memory in its storage, everything else as float32. Equal content gives equal bytes."""
        tensors = quantise(self.memory, self.storage)
        for name, tensor in stored_preprocessing(self.preprocessing).items():
            tensors[PREFIX + name] = tensor.detach().to(torch.float32)
        return pack(tensors, key=METADATA_KEY, text=self.manifest.to_json())

    def save(self, path: str | os.PathLike[str], *, limits: FileLimits = DEFAULT_LIMITS) -> MemoryBundle:
        """Write the file atomically, and return the bundle that it holds, with its sha256 and size.

        Raises InvalidBundle, before anything is written, for what `load` would refuse (numbers that are not finite, a
        file that is too large), and StorageFailed if the file cannot be written.
        """
        data = self.to_bytes()
        checked = MemoryBundle.from_bytes(data, limits=limits)
        write_atomically(path, data)
        return checked

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        expected_sha256: str | None = None,
        limits: FileLimits = DEFAULT_LIMITS,
    ) -> Self:
        """Read an untrusted file. Tensors are float32 on the CPU.

        Raises NotFound for a missing file, and InvalidBundle, with the file's name and one sentence, for one that is
        damaged, hostile, of another version, or whose digest is not `expected_sha256`.
        """
        name = Path(path).name
        try:
            return cls.from_bytes(read_bounded(path, limits.file_bytes), expected_sha256=expected_sha256, limits=limits)
        except FileNotFoundError as error:
            raise NotFound(f"there is no bundle file {name}") from error
        except OSError as error:
            raise InvalidBundle(f"{name}: the file cannot be read ({error.strerror or error})") from error
        except (InvalidBundle, ValueError) as error:
            raise InvalidBundle(f"{name}: {error}") from error

    @classmethod
    def from_bytes(
        cls, data: bytes, *, expected_sha256: str | None = None, limits: FileLimits = DEFAULT_LIMITS
    ) -> Self:
        """Like `load`, from bytes."""
        digest = hashlib.sha256(data).hexdigest()
        if expected_sha256 is not None and digest != expected_sha256.lower():
            raise InvalidBundle(f"the file's sha256 is {digest}, not the expected {printable(expected_sha256)}")
        try:
            tensors, text = unpack(data, key=METADATA_KEY, limits=limits, dtypes=TYPES)
            manifest = Manifest.from_json(text)
            memory, preprocessing, storage = _rebuild(manifest, tensors, limits.numbers)
        except ValueError as error:
            raise InvalidBundle(str(error)) from error
        bundle = cls(manifest, memory, preprocessing, storage, sha256=digest, file_bytes=len(data))
        _check_network_cost(bundle, limits.numbers)
        return bundle

    def label_queries(self, names: Sequence[str]) -> Tensor:
        """One-hot queries [len(names), len(labels)], float32, one row for each name.

        Raises UnknownLabel with the nearest labels, InvalidRequest for no names, and UnsupportedQuery if the memory is
        addressed by pictures.
        """
        if self.manifest.queries != "labels":
            raise UnsupportedQuery(f"the memory {self.manifest.name!r} is addressed by pictures, not by labels")
        if not names:
            raise InvalidRequest("one label or more is needed", parameter="labels")
        index = {label: position for position, label in enumerate(self.labels)}
        for name in names:
            if name not in index:
                raise UnknownLabel(name, difflib.get_close_matches(name, self.labels))
        return torch.eye(len(self.labels))[[index[name] for name in names]]

    def recall(self, queries: Tensor, rows: Tensor | None = None) -> Recalled:
        """What the memory recalls, in the shape that networks take; features are [q, n, D, 1, 1]."""
        items, targets = self.memory.recall(queries, rows)
        return Recalled(items.reshape(*items.shape[:2], *self.manifest.network_shape), targets)

    def recall_lazily(self, queries: Tensor) -> LazilyRecalled:
        """Like `recall` of all rows, up to rounding, but images may be computed on indexing."""
        if self.manifest.space == "pixels":
            return self.memory.recall_lazily(queries)
        return LazilyRecalled(*self.recall(queries))

    def recall_pixels(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        """Recalled images [q, n, C, H, W] in pixel space, not clipped; features [q, n, D, 1, 1] like an encoder's."""
        items = self.recall(queries, rows).items
        return self.preprocessing.to_pixels(items.flatten(0, 1)).view_as(items)

    def with_accuracy(self, rows: Iterable[MeasuredAccuracy]) -> MemoryBundle:
        """The same bundle with these measurements in its manifest. It has no file yet."""
        manifest = self.manifest.model_copy(update={"accuracy": tuple(rows)})
        return replace(self, manifest=manifest, sha256=None, file_bytes=None)


def _usable(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.int8:
        raise ValueError(f"the tensor {printable(name)!r} holds whole numbers, which only a memory's own tensors may")
    values = tensor.to(torch.float32)
    if not bool(values.isfinite().all()):
        raise ValueError(f"the tensor {printable(name)!r} holds values that are not finite")
    if bool((values.abs() > LARGEST_MAGNITUDE).any()):
        raise ValueError(f"the tensor {printable(name)!r} holds values beyond {LARGEST_MAGNITUDE:g}")
    return values


def stored_preprocessing(preprocessing: AbstractPreprocessing) -> dict[str, Tensor]:
    """The tensors of the preprocessing that a bundle stores; a projection's directions follow from the memory."""
    tensors = preprocessing.tensors()
    if isinstance(preprocessing, Projected):
        del tensors["directions"]
    return tensors


def _rebuild(
    manifest: Manifest, tensors: Mapping[str, Tensor], numbers: int
) -> tuple[AbstractMemory, AbstractPreprocessing, Storage]:
    """Memory, preprocessing and storage from the tensors. Raises ValueError for missing or unexpected tensors."""
    memory_type = MEMORIES.get(manifest.memory.kind)
    if memory_type is None:
        raise ValueError(f"the memory kind {manifest.memory.kind!r} is not one of {', '.join(MEMORIES)}")
    preprocessing_type = PREPROCESSINGS.get(manifest.preprocessing)
    if preprocessing_type is None:
        raise ValueError(f"the preprocessing {manifest.preprocessing!r} is not one of {', '.join(PREPROCESSINGS)}")
    prefixed = {
        name.removeprefix(PREFIX): _usable(name, value) for name, value in tensors.items() if name.startswith(PREFIX)
    }
    own = {name: value for name, value in tensors.items() if not name.startswith(PREFIX)}
    try:
        own, storage = dequantise(own, memory_type)
        own = {name: _usable(name, value) for name, value in own.items()}
        memory = memory_type.from_tensors(own, manifest.memory.settings)
        _check_recall_cost(memory, numbers)
        if preprocessing_type is Projected:
            preprocessing: AbstractPreprocessing = _projected(memory, prefixed)
        else:
            preprocessing = preprocessing_type.from_tensors(prefixed)
    except KeyError as error:
        raise ValueError(
            f"{error} is missing: a memory {manifest.memory.kind} with preprocessing {manifest.preprocessing} needs it"
        ) from error
    unknown = set(prefixed) - set(stored_preprocessing(preprocessing))
    extra = set(own) - set(memory.tensors()) | {PREFIX + name for name in unknown}
    if extra:
        raise ValueError(f"the tensor {printable(min(extra))!r} does not belong in this kind of bundle")
    return memory, preprocessing, storage


def _projected(memory: AbstractMemory, tensors: Mapping[str, Tensor]) -> Projected:
    """The projection onto the span of the memory. Raises KeyError and ValueError like `from_tensors`."""
    if BASES not in memory.traits:
        raise InvalidBundle(f"a memory {memory.kind} has no bases that pictures could be projected onto")
    return Projected.onto(memory.span(), Standardise.from_tensors(tensors), tensors["rest"])


def _check_recall_cost(memory: AbstractMemory, numbers: int) -> None:
    """Refuse a small file that needs much memory: a 1x1 basis can be enlarged to any size.

    The number of full-size items (K bases, r rows, d_y stored items) is the first dimension of one of the tensors, or
    the number of rows.
    """
    items = max(memory.rows, *(tensor.shape[0] for tensor in memory.tensors().values()))
    if items * memory.numbers_at_once() > numbers:
        size = "x".join(map(str, memory.item_shape))
        raise InvalidBundle(f"recalling takes {items} items of {size} at once, more than {numbers} numbers")


def _check_network_cost(bundle: MemoryBundle, numbers: int) -> None:
    parameters = sum(math.prod(shape) for shape in network_of(bundle.manifest).shapes().values())
    if parameters > numbers:
        raise InvalidBundle(f"the manifest's network has {parameters} parameters, more than {numbers}")
