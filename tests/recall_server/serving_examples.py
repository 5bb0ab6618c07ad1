"""A folder of small bundles that really can be learned from, and a backend that trains when it is told to.

The pictures are grey, 8x8, with one bright column; where it is, is the class.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import EncoderReference, MeasuredAccuracy
from recall_server.core.memory import AddressedBases, StoredItems
from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from recall_server.errors import RecallError
from recall_server.jobs.rows.records import JobError, Progress
from recall_server.jobs.rows.task import TrainingTask
from recall_server.jobs.workers.backend import Assignment, BackendState, JobQueue, WorkerInfo
from tests.recall_server.bundle_examples import example_manifest

SIDE = 8
COLUMNS = {"left": 1, "middle": 3, "right": 6}
ROWS = 6
PLACES: dict[str, Any] = {
    "accuracy": (
        MeasuredAccuracy(
            network="convnet:filters=8,depth=2",
            protocol="bundle",
            runs=2,
            mean=48 / 60,
            spread=0.1,
            data="columns of other seeds, 3-way, 30 pictures",
            confusions=((12, 8, 0), (0, 16, 4), (0, 0, 20)),
        ),
    ),
    "budget": {"images_per_class": 30, "numbers_stored": 18 * 16 * 16 + 6 * 3 * 18, "dataset_bytes": 7_680},
}
RETRAINING = Retraining(network=NetworkSpec(filters=8, depth=2), steps=30, learning_rate=0.05, rows_per_class=4)


def picture(label: str, seed: int, *, side: int = SIDE) -> NDArray[np.uint8]:
    """Noise [side, side] with the bright column of the label."""
    values = np.random.default_rng(seed).integers(0, 100, (side, side), dtype=np.uint8)
    values[:, COLUMNS[label] * side // SIDE] = 255
    return values


def png(values: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format="PNG")
    return stream.getvalue()


def memory_of_columns(*, side: int = SIDE) -> tuple[StoredItems, Standardise]:
    """ROWS pictures of each column, standardised."""
    shown = np.stack([picture(label, seed, side=side) for label in COLUMNS for seed in range(ROWS)])
    pixels = torch.from_numpy(shown)[:, None].float() / 255
    preprocessing = Standardise.fit(pixels)
    return StoredItems(preprocessing.to_model(pixels).unflatten(0, (len(COLUMNS), ROWS))), preprocessing


def label_bundle(
    name: str, labels: tuple[str, ...], *, side: int = SIDE, based: bool = False, **changed: Any
) -> MemoryBundle:
    """Three labels for the three columns; `based`: of bases that recall the same. `changed` replaces manifest keys."""
    pixels, preprocessing = memory_of_columns(side=side)
    memory = as_bases(pixels) if based else pixels
    fields = {"name": name, "labels": labels, "retraining": RETRAINING} | changed
    manifest = example_manifest(memory, preprocessing, **fields)
    return MemoryBundle(manifest=manifest, memory=memory, preprocessing=preprocessing)


def as_bases(memory: StoredItems) -> AddressedBases:
    """Each stored image as a basis of its own, and coefficients that pick it out."""
    labels, rows = memory.query_size, memory.rows
    addressing = torch.eye(labels * rows).unflatten(0, (labels, rows)).transpose(0, 1)
    height, width = memory.image_shape[1:]
    return AddressedBases(memory.stored.flatten(0, 1), addressing.contiguous(), height, width)


def image_bundle(name: str, encoder: bytes, *, file: str = "columns.onnx") -> MemoryBundle:
    """The same memory, addressed by how bright each of the three columns of a picture is."""
    memory, preprocessing = memory_of_columns()
    manifest = example_manifest(
        memory,
        preprocessing,
        name=name,
        labels=("unseen class",),
        queries="images",
        query_encoder=EncoderReference(file=file, sha256=hashlib.sha256(encoder).hexdigest(), query_size=len(COLUMNS)),
        budget={"images_per_class": 18, "numbers_stored": memory.stored_numbers(), "dataset_bytes": 1},
        retraining=RETRAINING,
    )
    return MemoryBundle(manifest=manifest, memory=memory, preprocessing=preprocessing)


def column_encoder(*, side: int = SIDE, size: int = len(COLUMNS), output: str = "queries") -> bytes:
    """An ONNX file: images [N, 1, side, side] -> how far each column stands out [N, size]."""
    weights = np.zeros((side, side, size), dtype=np.float32)
    for index, column in enumerate(list(COLUMNS.values())[:size]):
        weights[:, column * side // SIDE, index] = 1.6 / side
    weights -= 0.6 / (side * side)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["brightness"]),
            helper.make_node("Softmax", ["scaled"], [output], axis=1),
        ],
        "columns",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, side, side])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", size])],
        [
            numpy_helper.from_array(weights.reshape(-1, size), "weights"),
            numpy_helper.from_array(np.array(20, dtype=np.float32), "sharpness"),
        ],
    )
    graph.node.insert(2, helper.make_node("Mul", ["brightness", "sharpness"], ["scaled"]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_artifacts(folder: Path) -> Path:
    """`columns` and `places` (both know the label middle; images of other sizes), and `columns-images`.

    `places` is of bases, and was evaluated: far was always taken for what it is, near never for far.
    """
    encoder = column_encoder()
    (folder / "encoders").mkdir(parents=True)
    (folder / "encoders" / "columns.onnx").write_bytes(encoder)
    for bundle in (
        label_bundle("columns", tuple(COLUMNS)),
        label_bundle("places", ("near", "middle", "far"), side=16, based=True, **PLACES),
        image_bundle("columns-images", encoder),
    ):
        bundle.save(folder / "bundles" / f"{bundle.manifest.name}.safetensors")
    return folder


class ManualBackend:
    """Trains in the calling thread, and only when told to: `perform` one job, or every job at once if `eager`."""

    def __init__(self, *, eager: bool = False) -> None:
        self.eager = eager
        self.state: BackendState = "ready"
        self.device: str | None = "cpu"
        self.fault: str | None = None
        self.cancelled: list[str] = []
        self.stopped = False
        self._under_way: list[Assignment] = []

    @property
    def workers(self) -> tuple[WorkerInfo, ...]:
        return (WorkerInfo(state=self.state, pid=None, device=self.device, fault=self.fault),)

    def start(self, source: JobQueue) -> None:
        self.source = source
        self.wake()

    def wake(self) -> None:
        while self.eager and (assignment := self.source.take()) is not None:
            self.perform(assignment)

    def cancel(self, identifier: str) -> None:
        self._under_way = [each for each in self._under_way if each.identifier != identifier]
        self.cancelled.append(identifier)

    def stop(self) -> None:
        self.stopped = True
        while self._under_way:
            self.source.returned(self._under_way.pop())

    def begin(self) -> Assignment:
        """Take what waits longest."""
        assignment = self.source.take()
        assert assignment is not None, "no job waits"
        self._under_way.append(assignment)
        return assignment

    def perform(self, assignment: Assignment | None = None) -> None:
        """Train it, or what waits longest."""
        job = assignment or self.begin()
        try:
            classifier = self._train(job)
        except RecallError as error:
            return self.source.failed(job, JobError(kind=type(error).__name__, detail=str(error)))
        finally:
            self._under_way = [each for each in self._under_way if each != job]
        self.source.succeeded(job, classifier, 0.5)

    def _train(self, job: Assignment) -> bytes:
        def report(done: int, total: int, loss: float) -> None:
            self.source.progressed(job, Progress(done=done, total=total, loss=0.5))

        return TrainingTask.from_bytes(job.task).train(device="cpu", progress=report)
