"""Pictures -> query vectors, by the ONNX network that a memory was distilled together with (paper, section 5.3.2).

onnxruntime says what it was built for, not what it runs on, and falls back to the CPU without an error. So the
device asked for is compared with what the finished session reports, and that is what `provider` tells.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import threading
import weakref
from pathlib import Path
from typing import Any, Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from recall_server.core.encoders.onnx_check import check_onnx
from recall_server.core.io.tensor_file import read_bounded
from recall_server.errors import InvalidBundle

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
MAX_FILE_BYTES = 64 * 2**20
BATCH = 64  # pictures at a time: bounds the memory used, however many are sent
ERRORS_ONLY = 3  # severity of onnxruntime's own log; what it warns of is told better by `provider`

logger = logging.getLogger(__name__)
_creating = threading.Lock()  # creating sessions concurrently races inside onnxruntime


_loaded: weakref.WeakValueDictionary[tuple[object, ...], QueryEncoder] = weakref.WeakValueDictionary()


def load_encoder(
    path: str | os.PathLike[str],
    expected_sha256: str,
    *,
    image_shape: tuple[int, int, int] | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 1,
) -> QueryEncoder:
    """Like `QueryEncoder`, but bundles of one encoder share it. The file is read and compared every time."""
    key = (expected_sha256, image_shape, device, threads)
    found = _loaded.get(key)
    if found is None or _read(path, expected_sha256) != found.model:
        found = QueryEncoder(path, expected_sha256, image_shape=image_shape, device=device, threads=threads)
        _loaded[key] = found
    return found


@final
class QueryEncoder:
    """An ONNX file with the input `images` [N, C, H, W], float32 in pixel space, and the output `queries` [N, d_y].

    Raises InvalidBundle where the file is missing, is not the one with `expected_sha256`, is no such network, or
    where `device` is "cuda" and CUDA cannot be used. `auto` takes CUDA where it works and says so in `provider`.
    `model` is the file, for those who build on it. A file that takes pictures of any size needs the `image_shape`
    that it is used for.
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
        with _creating:
            self._session = _session(self.model, self._name, device, threads)
        self.provider: str = self._session.get_providers()[0]
        self.image_shape, self.query_size = self._signature(image_shape)
        self._running = threading.Lock()  # on CUDA the calls of one session share a stream
        self._check_runs()

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels [N, C, H, W] in 0..1 -> queries [N, d_y]."""
        with self._running:
            parts = [self._run(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.query_size), dtype=np.float32)

    def _run(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        (queries,) = self._session.run(["queries"], {"images": np.ascontiguousarray(pixels, dtype=np.float32)})
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


def _session(data: bytes, name: str, device: str, threads: int) -> Any:
    """A session on `device`, for the bytes of a file that `check_onnx` accepts."""
    runtime = _runtime()
    wants_cuda = device == "cuda" or (device == "auto" and CUDA in runtime.get_available_providers())
    if wants_cuda:
        try:
            return _create(runtime, data, CUDA, threads)
        except Exception as error:
            if device == "cuda":
                raise InvalidBundle(f"the query encoder {name} cannot run on CUDA: {_first_line(error)}") from error
            logger.warning("the query encoder %s runs on the CPU, for CUDA fails: %s", name, _first_line(error))
    try:
        return _create(runtime, data, CPU, threads)
    except Exception as error:
        raise InvalidBundle(f"the query encoder {name} is no ONNX file that onnxruntime can run") from error


def cpu_session(model: bytes) -> Any:
    """An onnxruntime session of this model on the CPU, with one thread; no two are created at the same time."""
    with _creating:
        return _create(_runtime(), model, CPU, 1)


def _create(runtime: Any, data: bytes, provider: str, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the bytes look like
    if provider != CPU:  # the strict mode: an error instead of a silent session on the CPU
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = runtime.InferenceSession(data, sess_options=options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"the session runs on {session.get_providers()[0]}")
    return session


def _runtime() -> Any:
    """onnxruntime, imported when the first encoder is loaded: a server of label memories works without it."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise InvalidBundle("a bundle with a query encoder needs the package onnxruntime installed") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
