"""Query encoders: which files are accepted, and the device that they run on."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from recall_server.core.encoders import onnx_session
from recall_server.core.encoders.onnx_session import CPU, CUDA, cpu_session, pictures_at_once, run_session
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import InvalidBundle
from tests.recall_server.serving_examples import COLUMNS, column_encoder, picture
from tests.tolerances import assert_close


def write(folder: Path, data: bytes) -> tuple[Path, str]:
    path = folder / "encoder.onnx"
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


class FakeRuntime:
    """onnxruntime of a machine that is said to have CUDA: creating a CUDA session fails, or falls back in silence."""

    def __init__(self, *, falls_back: bool) -> None:
        self.real: Any = onnxruntime
        self.SessionOptions, self.RunOptions = self.real.SessionOptions, self.real.RunOptions
        self.falls_back = falls_back

    def get_available_providers(self) -> list[str]:
        return [CUDA, CPU]

    def InferenceSession(self, data: bytes, *, sess_options: Any, providers: list[str]) -> Any:
        if providers == [CUDA] and not self.falls_back:
            raise RuntimeError("libcudart.so is missing\nand more lines")
        return self.real.InferenceSession(data, providers=[CPU])


def test_pictures_become_queries_in_batches_of_any_size(tmp_path: Path) -> None:
    encoder = QueryEncoder(*write(tmp_path, column_encoder()), device="cpu")
    assert (encoder.image_shape, encoder.query_size, encoder.provider) == ((1, 8, 8), 3, CPU)
    shown = [picture(label, seed) for seed in range(50) for label in COLUMNS]
    pixels = np.stack(shown)[:, None].astype(np.float32) / np.float32(255)
    queries = encoder.encode(pixels)
    assert queries.dtype == np.float32
    np.testing.assert_array_equal(queries.argmax(axis=1), [0, 1, 2] * 50)
    assert_close(queries[100:101], encoder.encode(pixels[100:101]), terms=8 * 8)
    assert encoder.encode(pixels[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"no network", "is refused: it is no ONNX model"),
        (column_encoder(output="logits"), "must map an input 'images' to an output 'queries'"),
    ],
)
def test_a_file_that_is_no_query_encoder_is_refused(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidBundle, match=rf"encoder\.onnx {sentence}"):
        QueryEncoder(*write(tmp_path, data), device="cpu")


def test_weights_in_another_file_are_not_fetched(tmp_path: Path) -> None:
    """What lies outside the file has no digest, and a path inside it could lead anywhere."""
    model = onnx.load_from_string(column_encoder())
    weights = model.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    with pytest.raises(InvalidBundle, match="is refused: its tensor .* is stored in another file"):
        QueryEncoder(*write(tmp_path, model.SerializeToString()), device="cpu")


@pytest.mark.parametrize("shape", [["N", 1, 8], ["N", 1, "H", 8]])
def test_an_encoder_of_pictures_of_no_fixed_size_is_refused(tmp_path: Path, shape: list[Any]) -> None:
    model = onnx.load_from_string(column_encoder())
    declared = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)
    model.graph.input[0].CopyFrom(declared)
    with pytest.raises(InvalidBundle, match=r"must take float32 images \[N, C, H, W\]|no ONNX file"):
        QueryEncoder(*write(tmp_path, model.SerializeToString()), device="cpu")


def test_a_missing_file_another_file_and_a_folder_are_refused_without_a_path(tmp_path: Path) -> None:
    path, _ = write(tmp_path, column_encoder())
    for culprit, sentence in (
        (tmp_path / "other.onnx", "the query encoder other.onnx is missing"),
        (path, "has sha256 .* but the bundle needs 00"),
        (tmp_path, "cannot be read: this is not an ordinary file"),
    ):
        with pytest.raises(InvalidBundle, match=sentence) as caught:
            QueryEncoder(culprit, "0" * 64, device="cpu")
        assert str(tmp_path) not in str(caught.value)


def test_an_encoder_that_gives_no_finite_numbers_is_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(column_encoder())
    model.graph.initializer[1].raw_data = np.float32(np.nan).tobytes()
    with pytest.raises(InvalidBundle, match="does not give finite queries"):
        QueryEncoder(*write(tmp_path, model.SerializeToString()), device="cpu")


@pytest.mark.parametrize("falls_back", [False, True])
def test_a_request_for_cuda_never_falls_back_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, falls_back: bool
) -> None:
    monkeypatch.setattr(onnx_session, "_runtime", lambda: FakeRuntime(falls_back=falls_back))
    with pytest.raises(InvalidBundle, match="cannot run on CUDA: (libcudart.so is missing|the session runs on CPU)"):
        QueryEncoder(*write(tmp_path, column_encoder()), device="cuda")


@pytest.mark.parametrize("falls_back", [False, True])
def test_auto_falls_back_to_the_cpu_if_cuda_fails_and_logs_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, falls_back: bool
) -> None:
    monkeypatch.setattr(onnx_session, "_runtime", lambda: FakeRuntime(falls_back=falls_back))
    with caplog.at_level(logging.WARNING):
        encoder = QueryEncoder(*write(tmp_path, column_encoder()), device="auto")
    assert encoder.provider == CPU
    assert "runs on the CPU, for CUDA fails" in caplog.text


def test_without_onnxruntime_the_reason_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(InvalidBundle, match="needs onnxruntime: pip install"):
        QueryEncoder(*write(tmp_path, column_encoder()), device="cpu")


def test_large_pictures_are_computed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [pictures_at_once(side * side) for side in (8, 28, 128, 224, 4000)] == [64, 64, 8, 2, 1]
    monkeypatch.setattr(onnx_session, "PIXELS_AT_ONCE", 3 * 64)
    sizes, session = [], cpu_session(column_encoder())

    class Counted:
        def run(self, names: Any, given: Any, options: Any) -> Any:
            sizes.append(len(given["images"]))
            return session.run(names, given, options)

    pixels = np.stack([picture("left", seed) for seed in range(8)])[:, None].astype(np.float32)
    assert_close(
        run_session(Counted(), "queries", pixels), run_session(session, "queries", pixels), terms=8 * 8, size=255.0
    )
    assert sizes == [3, 3, 2]


def test_a_session_releases_the_memory_of_a_large_run() -> None:
    options: list[Any] = []

    class Runtime(FakeRuntime):
        def InferenceSession(self, data: bytes, *, sess_options: Any, providers: list[str]) -> Any:
            options.append(sess_options)
            return self.real.InferenceSession(data, sess_options, providers=providers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_session, "_runtime", lambda: Runtime(falls_back=False))
        cpu_session(column_encoder())
    assert [each.enable_cpu_mem_arena for each in options] == [False]
