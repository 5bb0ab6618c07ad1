"""The verbs of the server, without HTTP: recall, train, predict, take away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch

from recall_server.config.settings import Settings
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.onnx_export import export_network
from recall_server.core.networks import NetworkSpec, build_network
from recall_server.errors import InvalidRequest, NotFound, NotReady, UnreadablePicture, UnsupportedQuery
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.records import ClassifierRecord, JobStatus
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.rows.task import TrainingTask
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.library.library import Library, LoadedBundle
from recall_server.recall.queries import Picture
from recall_server.service.service import RecallOptions, RecallService
from tests.recall_server.bundle_examples import with_soft_targets
from tests.recall_server.serving_examples import (
    COLUMNS,
    ROWS,
    ManualBackend,
    column_encoder,
    image_bundle,
    label_bundle,
    picture,
    png,
)

Serve = Callable[..., RecallService]


@pytest.fixture
def serve(library: Library, tmp_path: Path) -> Serve:
    """A service that trains at once, with settings of the test's choice."""

    def assemble(**changed: object) -> RecallService:
        jobs = TrainingJobs(
            SqlJobStore.open("sqlite://"), ClassifierFiles(tmp_path), ManualBackend(eager=True), JobLimits()
        )
        jobs.open()
        jobs.start()
        return RecallService(library, jobs, Settings(state=tmp_path, **changed))  # type: ignore[arg-type]

    return assemble


@pytest.fixture
def service(serve: Serve) -> RecallService:
    return serve()


def pictures(*labels: str, count: int = 3, seed: int = 100) -> list[Picture]:
    return [
        Picture(part=label, filename=f"{label}{index}.png", data=png(picture(label, seed + index)))
        for label in labels
        for index in range(count)
    ]


def test_labels_recall_what_the_memory_holds_in_pixel_space(service: RecallService) -> None:
    recalled = service.recall_labels(["right", "left"], RecallOptions(per_label="all"))
    assert [entry.query.name for entry in recalled.queries] == ["right", "left"]
    assert recalled.labels == ["right", "left"]
    assert [loaded.name for loaded in recalled.bundles] == ["columns"]
    for entry in recalled.queries:
        shown = np.stack([picture(entry.query.name, seed) for seed in range(ROWS)])[:, None] / 255
        np.testing.assert_allclose(entry.images, shown, atol=1e-5)
        assert entry.rows == tuple(range(ROWS))


def test_labels_of_several_bundles_are_recalled_together(service: RecallService) -> None:
    recalled = service.recall_labels(["columns:middle", "far", "places:middle"], RecallOptions(per_label=2))
    assert [entry.query.name for entry in recalled.queries] == ["columns:middle", "far", "places:middle"]
    assert [entry.images.shape for entry in recalled.queries] == [(2, 1, 8, 8), (2, 1, 16, 16), (2, 1, 16, 16)]
    assert [loaded.name for loaded in recalled.bundles] == ["columns", "places"]


def test_the_first_rows_come_without_a_seed_and_a_draw_with_one(service: RecallService) -> None:
    def rows(seed: int | None, *labels: str) -> list[tuple[int, ...]]:
        recalled = service.recall_labels(labels, RecallOptions(per_label=3, seed=seed))
        return [entry.rows for entry in recalled.queries]

    assert rows(None, "left") == [(0, 1, 2)]
    assert rows(5, "left") == rows(5, "left")
    assert len({rows(seed, "left")[0] for seed in range(20)}) > 5
    assert rows(5, "left", "right")[1:] == rows(5, "right")
    drawn = rows(5, "left")[0]
    assert len(set(drawn)) == 3
    assert list(drawn) == sorted(drawn)


def test_what_a_label_recalls_does_not_depend_on_its_company(service: RecallService) -> None:
    alone = service.recall_labels(["right"]).queries[0].images
    together = service.recall_labels(["left", "right", "far"]).queries[1].images
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-6)  # sums of another shape round otherwise


def test_the_same_recall_is_the_same_bytes_and_names_what_it_is_made_of(service: RecallService) -> None:
    def data() -> bytes:
        return service.recall_labels(["left", "right"], RecallOptions(per_label=2, seed=3)).to_safetensors()

    assert data() == data()
    tensors = safetensors.torch.load(data())
    assert tensors["images"].shape == (4, 1, 8, 8)
    assert tensors["targets"].tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    header = json.loads(data()[8 : 8 + int.from_bytes(data()[:8], "little")])["__metadata__"]
    description = json.loads(header["recall"])
    assert description["labels"] == ["left", "right"]
    assert description["seed"] == 3
    assert description["bundles"] == [{"name": "columns", "sha256": service.library.get("columns").sha256}]


def test_images_of_different_sizes_do_not_fit_in_one_tensor(service: RecallService) -> None:
    recalled = service.recall_labels(["left", "far"])
    with pytest.raises(InvalidRequest, match="different sizes"):
        recalled.to_safetensors()
    assert recalled.to_contact_sheet().startswith(b"\x89PNG")


def test_asking_for_more_rows_than_there_are_says_how_many_there_are(service: RecallService) -> None:
    assert len(service.recall_labels(["left"]).queries[0].rows) == ROWS
    with pytest.raises(InvalidRequest, match=f"'columns' recalls up to {ROWS} images per label, not {ROWS + 1}"):
        service.recall_labels(["left"], RecallOptions(per_label=ROWS + 1))


def test_a_recall_that_is_too_large_is_refused_before_it_is_made(serve: Serve) -> None:
    service = serve(max_recalled_numbers=2 * 64)
    service.recall_labels(["left"], RecallOptions(per_label=2))
    with pytest.raises(InvalidRequest, match="would recall 192 numbers, more than the 128"):
        service.recall_labels(["left"], RecallOptions(per_label=3))


def test_a_mixture_is_the_weighted_sum_of_what_its_labels_recall(service: RecallService) -> None:
    memory = service.library.get("columns").bundle.memory
    recalled = service.recall_mixtures([{"left": 0.25, "RIGHT": 0.75}, {"middle": 2}], RecallOptions(bundle="columns"))
    mixed, single = recalled.queries
    assert (mixed.query.name, mixed.query.target) == ("0.25 left + 0.75 right", {"left": 0.25, "right": 0.75})
    assert (single.query.name, single.query.target) == ("2 middle", {"middle": 2})
    preprocessing = service.library.get("columns").bundle.preprocessing
    expected = preprocessing.to_pixels(memory.recall(torch.tensor([[0.25, 0.0, 0.75]]))[0])
    np.testing.assert_allclose(mixed.images, expected.numpy(), atol=1e-6)
    targets = safetensors.torch.load(recalled.to_safetensors())["targets"]
    assert targets[0].tolist() == [0.25, 0.75, 0.0]


def test_a_vector_is_a_query_as_it_is(service: RecallService) -> None:
    by_vector = service.recall_vectors([[0, 0, 1], [1, 0, 0]], RecallOptions(bundle="columns"))
    by_label = service.recall_labels(["right", "left"])
    assert [entry.query.name for entry in by_vector.queries] == ["query 1", "query 2"]
    for one, other in zip(by_vector.queries, by_label.queries, strict=True):
        assert one.images.tobytes() == other.images.tobytes()


def test_pictures_of_one_part_are_one_query(service: RecallService) -> None:
    recalled = service.recall_pictures(pictures("left", "right", count=2))
    assert [entry.query.name for entry in recalled.queries] == ["left", "right"]
    for entry in recalled.queries:
        column = COLUMNS[entry.query.name]
        assert entry.images[..., column].mean() > 0.8
        assert entry.images.mean() < 0.5


@pytest.mark.parametrize(
    ("mixtures", "sentence"),
    [
        ([], "one mixture or more"),
        ([{}], "a mixture needs one label"),
        ([{"left": float("nan")}], "weights must be finite"),
        ([{"left": 1e9}], "weights must be finite and at most"),
        ([{"left": 1, "far": 1}], "must be of one bundle"),
        ([{"left": 1, "LEFT": 1}], "named twice"),
    ],
)
def test_mixtures_that_cannot_be_are_refused(
    service: RecallService, mixtures: list[dict[str, float]], sentence: str
) -> None:
    with pytest.raises((InvalidRequest), match=sentence) as caught:
        service.recall_mixtures(mixtures)
    assert caught.value.parameter == "mixtures"


@pytest.mark.parametrize(
    ("vectors", "sentence"),
    [
        ([], "one vector or more"),
        ([[1, 2, 3], [1, 2]], "takes vectors of 3 numbers, but vector 2 has 2"),
        ([[1, 2, float("inf")]], "weights must be finite"),
    ],
)
def test_vectors_that_cannot_be_are_refused(service: RecallService, vectors: list[list[float]], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        service.recall_vectors(vectors, RecallOptions(bundle="columns"))
    assert caught.value.parameter == "vectors"


def accuracy(service: RecallService, record: ClassifierRecord, *labels: str) -> float:
    shown = pictures(*labels, count=20, seed=1000)
    predictions = service.predict(record.id, shown)
    return sum(each.label == sent.part for each, sent in zip(predictions, shown, strict=True)) / len(shown)


def test_a_classifier_trained_from_labels_knows_pictures_it_has_never_seen(service: RecallService) -> None:
    record = service.train_labels(["right", "LEFT"], seed=4).record
    assert (record.labels, record.queries, record.pictures, record.seed) == (("right", "left"), "labels", None, 4)
    finished = service.jobs.get(record.id)
    assert finished.status is JobStatus.SUCCEEDED
    assert finished.file is not None
    assert accuracy(service, record, "right", "left") > 0.95


def test_a_classifier_trained_from_pictures_has_their_names(service: RecallService) -> None:
    record = service.train_pictures(pictures("left", "right", count=2)).record
    assert (record.labels, record.queries, record.pictures) == (
        ("left", "right"),
        "images",
        {"left": 2, "right": 2},
    )
    assert accuracy(service, record, "left", "right") > 0.95


def named(names: dict[str, str], count: int = 3) -> list[Picture]:
    """Pictures of each label under another name."""
    return [
        Picture(part=name, filename=f"{name}{index}.png", data=png(picture(label, 100 + index)))
        for name, label in names.items()
        for index in range(count)
    ]


def test_prototypes_are_a_classifier_at_once_and_without_a_worker(library: Library, tmp_path: Path) -> None:
    jobs = TrainingJobs(SqlJobStore.open("sqlite://"), ClassifierFiles(tmp_path), ManualBackend(), JobLimits())
    jobs.open()
    service = RecallService(library, jobs, Settings(state=tmp_path))
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


def lazy_service(library: Library, state: Path) -> tuple[RecallService, ManualBackend]:
    """A service whose trainings wait until the backend is told to begin one."""
    backend = ManualBackend()
    jobs = TrainingJobs(SqlJobStore.open("sqlite://"), ClassifierFiles(state), backend, JobLimits())
    jobs.open()
    jobs.start()
    return RecallService(library, jobs, Settings(state=state)), backend


def test_prototypes_answer_for_a_classifier_that_is_being_trained_from_pictures(
    library: Library, tmp_path: Path
) -> None:
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
def test_a_classifier_learns_from_the_pictures_too_unless_that_is_not_wanted(
    library: Library, tmp_path: Path, way: Literal["images", "classify"], bundle: str | None
) -> None:
    service, _ = lazy_service(library, tmp_path)
    sent = [*named({"a": "left"}, count=4), *named({"b": "right"}, count=2)]
    rows = []
    for own in (True, False):
        record = service.train_pictures(sent, addressing=way, bundle=bundle, own_pictures=own).record
        rows.append(TrainingTask.from_bytes(service.jobs.task(record.id)).images.shape[1])
        assert ("pictures themselves are among" in record.notes[0]) is own
    assert rows[0] == rows[1] + 4


def test_a_classifier_begins_with_the_encoder_where_its_memory_says_so(tmp_path: Path) -> None:
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
    task = TrainingTask.from_bytes(service.jobs.task(record.id))
    assert task.pretrained is not None
    assert all("classifier" not in name for name in task.pretrained)
    name = "block0.convolution.weight"
    assert torch.equal(task.pretrained[name], parameters[name])
    assert task.images.shape[1] == ROWS + 3, "and learns from the pictures too"
    backend.perform(backend.begin())
    (said,) = service.predict(record.id, pictures("right", count=1, seed=900))
    assert (said.label, said.by) == ("b", "classifier")
    assert "from the layers of the query encoder" in service.bundle_card("pictures")


def test_pictures_may_be_taken_for_labels_that_are_then_recalled(service: RecallService) -> None:
    record = service.train_pictures(
        named({"a": "left", "b": "right"}), addressing="classify", bundle="columns", seed=2
    ).record
    assert (record.addressing, record.labels, record.bundle.name) == ("classify", ("a", "b"), "columns")
    assert "(a for left, b for right)" in record.notes[0]
    (said,) = service.predict(record.id, pictures("right", count=1, seed=900))
    assert said.label == "b"
    assert record.quality is not None and record.quality.source == "pictures"


def test_auto_takes_what_the_loaded_bundles_can_do(library: Library, service: RecallService, tmp_path: Path) -> None:
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


def test_a_picture_that_the_encoder_makes_nothing_of_is_named(tmp_path: Path, serve: Serve) -> None:
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


def test_probabilities_are_of_each_label_and_sum_to_one(service: RecallService) -> None:
    record = service.train_labels(["left", "right", "middle"], bundle="columns").record
    (prediction,) = service.predict(record.id, pictures("middle", count=1))
    assert list(prediction.probabilities) == ["left", "right", "middle"]
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.probabilities[prediction.label] == max(prediction.probabilities.values())


def test_the_same_request_and_seed_give_the_same_file_and_another_seed_another(service: RecallService) -> None:
    def data(seed: int) -> bytes:
        return service.download(service.train_labels(["left", "right"], seed=seed).record.id, "safetensors")

    first = data(1)
    assert first == data(1)
    assert first != data(2)

    def few_shot(seed: int) -> bytes:
        return service.download(service.train_pictures(pictures("left", "right"), seed=seed).record.id, "safetensors")

    assert few_shot(1) == few_shot(1)


def test_a_downloaded_onnx_file_predicts_the_same_without_this_project(service: RecallService) -> None:
    record = service.train_labels(["left", "right"]).record
    session = onnxruntime.InferenceSession(service.download(record.id, "onnx"))
    shown = picture("right", 5)
    (probabilities,) = session.run(None, {"images": shown[None, None].astype(np.float32) / 255})
    (prediction,) = service.predict(record.id, [Picture("images", "", png(shown))])
    np.testing.assert_allclose(probabilities[0], list(prediction.probabilities.values()), atol=1e-4)


@pytest.mark.parametrize(
    ("labels", "error", "sentence"),
    [
        ([], InvalidRequest, "needs two or more; this request names none"),
        (["left"], InvalidRequest, "needs two or more; this request names one"),
        (["left", "LEFT"], InvalidRequest, "named twice"),
    ],
)
def test_labels_that_make_no_classifier_are_refused(
    service: RecallService, labels: list[str], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        service.train_labels(labels)
    assert service.jobs.page(10).records == ()


def test_a_classifier_over_two_bundles_says_which_and_that_nobody_measured_their_confusions(
    service: RecallService,
) -> None:
    record = service.train_labels(["left", "places:middle", "far"], seed=1).record
    assert [each.name for each in record.bundles] == ["columns", "places"]
    assert record.bundle.name == "places", "whose images are the larger ones"
    assert (record.image.height, record.quality) == (16, None)
    (note,) = record.notes
    assert "2 memories (columns, places)" in note
    assert "never measured" in note
    shown = [*pictures("left", count=5), *pictures("right", count=5, seed=400)]
    assert [each.label for each in service.predict(record.id, shown)] == ["left"] * 5 + ["far"] * 5
    card = service.classifier_card(record.id)
    assert note in card
    assert card.count("SHA-256 of the memory") == 2
    assert service.train_labels(["left", "places:middle", "far"], seed=1).record.id == record.id


def test_labels_that_two_bundles_know_are_told_apart_by_their_bundle(service: RecallService) -> None:
    record = service.train_labels(["columns:middle", "places:middle"]).record
    assert record.labels == ("columns:middle", "places:middle")
    assert service.jobs.get(record.id).status is JobStatus.SUCCEEDED


def test_images_are_shared_out_by_soft_targets_among_the_labels_asked_of_one_bundle(
    tmp_path: Path, serve: Serve
) -> None:
    soft, hard = with_soft_targets(label_bundle("columns", tuple(COLUMNS))), label_bundle("other", ("a", "b", "c"))
    library = Library({"columns": LoadedBundle(soft), "other": LoadedBundle(hard)})
    service = RecallService(library, serve().jobs, Settings(state=tmp_path))
    right, other, left = (entry.query.target for entry in service.recall_labels(["right", "a", "left"]).queries)
    assert other == {"a": 1.0}
    assert soft.targets is not None
    index = [tuple(COLUMNS).index(label) for label in ("right", "left")]
    shares = soft.targets[index[0]][index]
    assert right == pytest.approx(dict(zip(("right", "left"), (shares / shares.sum()).tolist(), strict=True)))
    assert sum(left.values()) == pytest.approx(1)
    assert service.train_labels(["right", "left"]).record.labels == ("right", "left")


def test_a_group_is_recalled_trained_and_counted_as_its_labels(tmp_path: Path, serve: Serve) -> None:
    grouped = label_bundle("columns", tuple(COLUMNS), groups={"edges": ("right", "left")})
    library = Library({"columns": LoadedBundle(grouped)})
    service = RecallService(library, serve().jobs, Settings(state=tmp_path, max_classes=2))
    assert [entry.query.name for entry in service.recall_labels(["edges"]).queries] == ["right", "left"]
    assert service.train_labels(["edges"]).record.labels == ("right", "left")
    with pytest.raises(InvalidRequest, match="3 classes are more than the 2"):
        service.train_labels(["edges", "middle"])
    with pytest.raises(UnsupportedQuery, match="a mixture weighs single labels, which 'edges' is not"):
        service.recall_mixtures([{"edges": 0.5, "middle": 0.5}])


def test_more_classes_or_numbers_than_allowed_are_refused(serve: Serve) -> None:
    with pytest.raises(InvalidRequest, match="3 classes are more than the 2"):
        serve(max_classes=2).train_labels(["left", "right", "middle"])
    with pytest.raises(InvalidRequest, match="training on 2 classes takes 768 numbers of images"):
        serve(max_recalled_numbers=767).train_labels(["left", "right"])
    with pytest.raises(InvalidRequest, match="training on 2 classes takes 3,072 numbers of images"):
        serve(max_recalled_numbers=3071).train_labels(["left", "far"])  # of 16x16, as both will be


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
    assert service.jobs.page(10).records == ()


def test_too_many_pictures_are_refused(serve: Serve) -> None:
    with pytest.raises(InvalidRequest, match="6 pictures are more than the 5"):
        serve(max_pictures=5).train_pictures(pictures("left", "right"))


def test_only_a_classifier_that_succeeded_can_be_used(library: Library, tmp_path: Path) -> None:
    service, backend = lazy_service(library, tmp_path)
    record = service.train_labels(["left", "right"]).record
    with pytest.raises(NotReady, match="it is queued"):
        service.predict(record.id, pictures("left"))
    with pytest.raises(NotReady, match="it is queued"):
        service.download(record.id, "onnx")
    backend.perform()
    assert service.predict(record.id, pictures("left"))
    with pytest.raises(NotFound, match="no classifier has the id 'nobody'"):
        service.predict("nobody", pictures("left"))


def test_a_prediction_needs_pictures_that_can_be_read(service: RecallService) -> None:
    record = service.train_labels(["left", "right"]).record
    with pytest.raises(InvalidRequest, match="send one picture or more"):
        service.predict(record.id, [])
    with pytest.raises(UnreadablePicture, match="the picture 'b' of the part 'images'"):
        service.predict(record.id, [*pictures("left"), Picture("images", "b", b"?")])
