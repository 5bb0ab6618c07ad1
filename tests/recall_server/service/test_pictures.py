"""Classifiers from a few pictures of each class, in each mode of addressing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from recall_server.config import Settings
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.onnx_export import export_network
from recall_server.core.networks import NetworkSpec, build_network
from recall_server.core.reports.bundle_card import bundle_card
from recall_server.errors import InvalidRequest, NotFound, NotReady, UnsupportedQuery
from recall_server.jobs.rows.records import JobStatus
from recall_server.jobs.rows.task import TrainingTask
from recall_server.library import Library
from recall_server.recall import Picture
from recall_server.service import RecallService
from tests.recall_server.service.examples import Serve, lazy_service, named, pictures
from tests.recall_server.serving_examples import COLUMNS, ROWS, column_encoder, image_bundle, picture, png


def test_prototypes_need_neither_training_nor_a_worker(library: Library, tmp_path: Path) -> None:
    service, _ = lazy_service(library, tmp_path)
    jobs = service.jobs
    accepted = service.train_pictures(named({"a": "left", "b": "right"}), addressing="prototypes")
    record = accepted.record
    assert (record.status, record.addressing, record.labels, accepted.work) == (
        JobStatus.SUCCEEDED,
        "prototypes",
        ("a", "b"),
        0,
    )
    assert record.pictures == {"a": 3, "b": 3}
    assert record.quality is not None
    assert "nearest class mean" in record.notes[0]
    (said,) = service.predict(record.id, pictures("right", count=1, seed=900))
    assert (said.label, said.by) == ("b", "prototypes")
    session = onnxruntime.InferenceSession(service.download(record.id, "onnx"))
    assert session.run(None, {"images": picture("left", 3)[None, None].astype(np.float32) / 255})[0][0, 0] > 0.5
    assert "nearest in the space of" in service.classifier_card(record.id)
    again = service.train_pictures(named({"a": "left", "b": "right"}), addressing="prototypes").record
    assert again.id == record.id
    assert [event.status for event in jobs.events(record.id)] == [JobStatus.QUEUED, JobStatus.SUCCEEDED]
    jobs.delete(record.id)
    with pytest.raises(NotFound):
        service.predict(record.id, pictures("right"))


def test_prototypes_predict_while_a_classifier_of_pictures_is_trained(library: Library, tmp_path: Path) -> None:
    service, backend = lazy_service(library, tmp_path)
    jobs = service.jobs
    record = service.train_pictures(named({"a": "left", "b": "right"})).record
    assert (record.status, record.addressing) == (JobStatus.QUEUED, "images")
    asked = pictures("right", "left", count=2, seed=900)
    before = service.predict(record.id, asked)
    assert [(each.label, each.by) for each in before] == [("b", "prototypes")] * 2 + [("a", "prototypes")] * 2
    with pytest.raises(NotReady):
        service.download(record.id, "onnx")
    assignment = backend.begin()
    assert service.predict(record.id, asked)[0].by == "prototypes"
    backend.perform(assignment)
    after = service.predict(record.id, asked)
    assert [(each.label, each.by) for each in after] == [("b", "classifier")] * 2 + [("a", "classifier")] * 2
    cancelled = service.train_pictures(named({"c": "left", "d": "right"})).record
    jobs.cancel(cancelled.id)
    with pytest.raises(NotReady, match="cancelled"):
        service.predict(cancelled.id, asked)


@pytest.mark.parametrize(("way", "bundle"), [("images", None), ("classify", "columns")])
def test_a_classifier_is_trained_on_the_pictures_too_by_default(
    library: Library, tmp_path: Path, way: Literal["images", "classify"], bundle: str | None
) -> None:
    service, _ = lazy_service(library, tmp_path)
    sent = [*named({"a": "left"}, count=4), *named({"b": "right"}, count=2)]
    rows = []
    for own in (True, False):
        record = service.train_pictures(sent, addressing=way, bundle=bundle, own_pictures=own).record
        rows.append(TrainingTask.from_bytes(service.jobs.task_file(record.id).read_bytes()).images.shape[1])
        assert ("also learns from the pictures" in record.notes[0]) is own
    assert rows[0] == rows[1] + 4


def test_a_classifier_starts_from_the_encoder_if_the_schedule_says_so(tmp_path: Path) -> None:
    spec, shape = NetworkSpec(filters=8, depth=2), (1, 8, 8)
    network = build_network(spec, shape, len(COLUMNS))
    parameters = network.initialise(torch.Generator().manual_seed(0))
    preprocessing = image_bundle("pictures", b"").preprocessing
    encoder = export_network(network, parameters, preprocessing, shape, output="queries", metadata={})
    bundle = image_bundle("pictures", encoder)
    warm = bundle.manifest.retraining.model_copy(update={"network": spec, "initial": "encoder"})
    bundle = MemoryBundle(bundle.manifest.model_copy(update={"retraining": warm}), bundle.memory, preprocessing)
    bundle.save(tmp_path / "artifacts" / "bundles" / "pictures.safetensors")
    (tmp_path / "artifacts" / "encoders").mkdir()
    (tmp_path / "artifacts" / "encoders" / "columns.onnx").write_bytes(encoder)
    service, backend = lazy_service(Library.load(tmp_path / "artifacts", device="cpu"), tmp_path)
    record = service.train_pictures(named({"a": "left", "b": "right"}), addressing="images").record
    task = TrainingTask.from_bytes(service.jobs.task_file(record.id).read_bytes())
    assert task.pretrained is not None
    assert all("classifier" not in name for name in task.pretrained)
    name = "block0.convolution.weight"
    assert torch.equal(task.pretrained[name], parameters[name])
    assert task.images.shape[1] == ROWS + 3, "and learns from the pictures too"
    backend.perform(backend.begin())
    (said,) = service.predict(record.id, pictures("right", count=1, seed=900))
    assert (said.label, said.by) == ("b", "classifier")
    assert "from the layers of the query encoder" in bundle_card(service.library.get("pictures").bundle)


def test_pictures_can_be_classified_as_labels_that_are_then_recalled(service: RecallService) -> None:
    record = service.train_pictures(
        named({"a": "left", "b": "right"}), addressing="classify", bundle="columns", seed=2
    ).record
    assert (record.addressing, record.labels, record.bundle.name) == ("classify", ("a", "b"), "columns")
    assert "(a as left, b as right)" in record.notes[0]
    (said,) = service.predict(record.id, pictures("right", count=1, seed=900))
    assert said.label == "b"
    assert record.quality is not None and record.quality.source == "pictures"


def test_auto_chooses_what_the_loaded_bundles_support(library: Library, service: RecallService, tmp_path: Path) -> None:
    sent = named({"a": "left", "b": "right"})
    assert service.train_pictures(sent).record.addressing == "images"
    assert service.train_pictures(sent, bundle="columns").record.addressing == "classify"
    alone = RecallService(Library({"columns": library.get("columns")}), service.jobs, Settings(state=tmp_path))
    assert alone.train_pictures(sent).record.addressing == "classify"
    for way in ("images", "prototypes"):
        with pytest.raises(UnsupportedQuery, match="no loaded bundle can be addressed by pictures"):
            alone.train_pictures(sent, addressing=way)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="several bundles know labels; say which: 'columns', 'places'"):
        service.train_pictures(sent, addressing="classify")
    only = RecallService(Library({"p": library.get("columns-images")}), service.jobs, Settings(state=tmp_path))
    with pytest.raises(UnsupportedQuery, match="no loaded bundle is addressed by labels"):
        only.train_pictures(sent, addressing="classify")


def test_a_picture_without_finite_features_is_named(tmp_path: Path, serve: Serve) -> None:
    """Grey pictures, which an encoder is tried with when it is loaded, may go well where others do not."""
    model = onnx.load_from_string(column_encoder())
    first = model.graph.node[0]
    model.graph.node.insert(0, onnx.helper.make_node("Sub", ["images", "half"], ["centred"]))
    model.graph.node.insert(1, onnx.helper.make_node("Sqrt", ["centred"], ["rooted"]))
    model.graph.node[2].input[0] = "rooted"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.5, dtype=np.float32), "half"))
    assert first.op_type == "Flatten"
    encoder = model.SerializeToString()
    (tmp_path / "artifacts" / "encoders").mkdir(parents=True)
    (tmp_path / "artifacts" / "encoders" / "columns.onnx").write_bytes(encoder)
    image_bundle("nan", encoder).save(tmp_path / "artifacts" / "bundles" / "nan.safetensors")
    library = Library.load(tmp_path / "artifacts", device="cpu")
    service = RecallService(library, serve().jobs, Settings(state=tmp_path))
    with pytest.raises(UnsupportedQuery, match="'nan' gives no finite numbers for the picture 'left0.png' of the part"):
        service.train_pictures(pictures("left", "right"))


def test_the_same_picture_in_two_classes_is_refused(service: RecallService) -> None:
    sent = pictures("left", "right")
    twice = [*sent, Picture("right", "again.png", sent[0].data)]
    with pytest.raises(InvalidRequest, match="'again.png' of the part 'right' is the picture 'left0.png' of the part"):
        service.train_pictures(twice)
    assert service.train_pictures([*sent, sent[0]]).record.pictures == {"left": 4, "right": 3}


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ([], "names none"),
        (pictures("left"), "names one"),
        ([*pictures("left"), Picture("right", "r.png", b"")], "the picture 'r.png' of the part 'right' is empty"),
        ([*pictures("left"), Picture("right", "r.txt", b"text")], "'r.txt' of the part 'right' is no JPEG, PNG"),
        ([*pictures("left"), *(Picture("", "r.png", png(picture("left", 1))),)], "'' cannot name a class"),
        ([*pictures("left"), Picture("a:b", "r.png", b"")], "'a:b' cannot name a class"),
        ([*pictures("left"), Picture("a\n", "r.png", b"")], "cannot name a class"),
        ([*pictures("left"), Picture("x" * 201, "r.png", b"")], "cannot name a class: it must have 1 to 200"),
    ],
)
def test_pictures_that_make_no_classifier_are_refused(
    service: RecallService, sent: list[Picture], sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        service.train_pictures(sent)
    assert service.jobs.page(10).entries == ()


def test_too_many_pictures_are_refused(serve: Serve) -> None:
    with pytest.raises(InvalidRequest, match="6 pictures are more than the 5"):
        serve(max_pictures=5).train_pictures(pictures("left", "right"))
