"""Pictures -> query vectors, by the ONNX network that a memory was distilled together with (paper, section 5.3.2)."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import threading
import weakref
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from recall_server.core.encoders.description import description_of
from recall_server.core.encoders.onnx_check import check_onnx
from recall_server.core.encoders.onnx_session import CPU, open_session, run_session
from recall_server.core.encoders.trial import try_encoder
from recall_server.core.io.tensor_file import read_bounded
from recall_server.errors import InvalidBundle

MAX_FILE_BYTES = 64 * 2**20

_tried: set[tuple[object, ...]] = set()  # digests of encoders that passed their trial, with the picture shapes
_loaded: weakref.WeakValueDictionary[tuple[object, ...], QueryEncoder] = weakref.WeakValueDictionary()


def load_encoder(
    path: str | os.PathLike[str],
    expected_sha256: str,
    *,
    image_shape: tuple[int, int, int] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 1,
) -> QueryEncoder:
    """Like `QueryEncoder`, for files of strangers: it is tried in another process before, and is shared by its bundles.

    The file is read and compared every time. Raises InvalidBundle also if it takes too much time or memory.
    """
    key = (expected_sha256, image_shape, device, threads)
    found, model = _loaded.get(key), _read(path, expected_sha256)
    if found is None:
        if (expected_sha256, image_shape) not in _tried:
            try_encoder(model, Path(path).name, image_shape)
            _tried.add((expected_sha256, image_shape))
        found = QueryEncoder(path, expected_sha256, image_shape=image_shape, device=device, threads=threads)
        _loaded[key] = found
    return found


@final
class QueryEncoder:
    """An ONNX file with the input `images` [N, C, H, W], float32 in pixel space, and the output `queries` [N, d_y].

    Raises InvalidBundle where the file is missing, is not the one with `expected_sha256`, is no such network, or
    where `device` is "cuda" and CUDA cannot be used. `auto` takes CUDA where it works and says so in `provider`.
    `model` is the file, for those who build on it, and `description` what its metadata says. A file that takes pictures
    of any size needs the `image_shape` that it is used for.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        expected_sha256: str,
        *,
        image_shape: tuple[int, int, int] | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        threads: int = 1,
    ) -> None:
        self._name = Path(path).name
        self.model, self.sha256 = _read(path, expected_sha256), expected_sha256
        self._session = open_session(self.model, self._name, device, threads)
        self.provider: str = self._session.get_providers()[0]
        self.description = description_of(self._session.get_modelmeta().custom_metadata_map)
        self.image_shape, self.query_size = self._signature(image_shape)
        # On CUDA the calls of one session share a stream.
        on_cpu = self.provider == CPU
        self._running: AbstractContextManager[object] = nullcontext() if on_cpu else threading.Lock()
        self._check_runs()

    @property
    def name(self) -> str:
        """The name in its description or, without one, that of its file."""
        return self._name if self.description is None else self.description.name

    @functools.cached_property
    def at_own_size(self) -> QueryEncoder:
        """The same network for pictures of the size in its description; itself where it takes no others."""
        if self.description is None:
            return self
        size = self.description.size
        image_shape, _ = self._signature((self.image_shape[0], size, size))
        if image_shape == self.image_shape:
            return self
        other = copy.copy(self)  # which shares the session
        other.image_shape = image_shape
        other._check_runs()
        return other

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels [N, C, H, W] in 0..1 -> queries [N, d_y]. Raises UnsupportedQuery if that takes too long."""
        if not len(pixels):
            return np.zeros((0, self.query_size), dtype=np.float32)
        with self._running:
            queries = run_session(self._session, "queries", pixels.astype(np.float32, copy=False))
        return np.asarray(queries, dtype=np.float32)

    def _signature(self, asked: tuple[int, int, int] | None) -> tuple[tuple[int, int, int], int]:
        """Image shape and query size as the file declares them; sizes that it leaves open are those asked for."""
        inputs = {value.name: value for value in self._session.get_inputs()}
        outputs = {value.name: value for value in self._session.get_outputs()}
        if set(inputs) != {"images"} or "queries" not in outputs:
            raise InvalidBundle(f"the query encoder {self._name} must map an input 'images' to an output 'queries'")
        image, query = list(inputs["images"].shape), list(outputs["queries"].shape)
        if asked is not None and len(image) == 4:
            image[1:] = [own if isinstance(own, int) else size for own, size in zip(image[1:], asked, strict=True)]
        if inputs["images"].type != "tensor(float)" or len(image) != 4 or not _are_sizes(image[1:]):
            raise InvalidBundle(f"the query encoder {self._name} must take float32 images [N, C, H, W], not {image}")
        if outputs["queries"].type != "tensor(float)" or len(query) != 2 or not _are_sizes(query[1:]):
            raise InvalidBundle(f"the query encoder {self._name} must give float32 queries [N, d_y], not {query}")
        return (image[1], image[2], image[3]), query[1]

    def _check_runs(self) -> None:
        """Encode two grey pictures: a session that was created can still fail, or be made for single pictures."""
        try:
            queries = self.encode(np.full((2, *self.image_shape), 0.5, dtype=np.float32))
        except Exception as error:  # onnxruntime raises classes of its own, without a common root
            raise InvalidBundle(f"the query encoder {self._name} fails on two plain grey pictures") from error
        if queries.shape != (2, self.query_size) or not np.isfinite(queries).all():
            raise InvalidBundle(f"the query encoder {self._name} does not give finite queries [N, {self.query_size}]")


def _are_sizes(values: list[Any]) -> bool:
    return all(isinstance(value, int) and value > 0 for value in values)


def _read(path: str | os.PathLike[str], expected_sha256: str) -> bytes:
    name = Path(path).name
    try:
        data = read_bounded(path, MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise InvalidBundle(f"the query encoder {name} is missing from the folder encoders") from error
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise InvalidBundle(f"the query encoder {name} cannot be read: {reason}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected_sha256:
        raise InvalidBundle(f"the query encoder {name} has sha256 {digest}, but the bundle needs {expected_sha256}")
    try:
        check_onnx(data)
    except ValueError as error:
        raise InvalidBundle(f"the query encoder {name} is refused: {error}") from error
    return data
