"""Recall through the service: labels, mixtures, vectors and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from recall_server.config import Settings
from recall_server.errors import InvalidRequest
from recall_server.library import Library, LoadedBundle
from recall_server.service import RecallOptions, RecallService
from tests.recall_server.bundle_examples import shares, with_soft_targets
from tests.recall_server.service.examples import Serve, pictures
from tests.recall_server.serving_examples import COLUMNS, ROWS, label_bundle, picture
from tests.tolerances import assert_close


def test_labels_recall_images_in_pixel_space(service: RecallService) -> None:
    recalled = service.recall_labels(["right", "left"], RecallOptions(per_label="all"))
    assert [entry.query.name for entry in recalled.queries] == ["right", "left"]
    assert recalled.labels == ["right", "left"]
    assert [loaded.name for loaded in recalled.bundles] == ["columns"]
    for entry in recalled.queries:
        shown = np.stack([picture(entry.query.name, seed) for seed in range(ROWS)])[:, None] / 255
        assert_close(entry.images, shown.astype(np.float32), terms=4)
        assert entry.rows == tuple(range(ROWS))


def test_labels_of_several_bundles_are_recalled_together(service: RecallService) -> None:
    recalled = service.recall_labels(["columns:middle", "far", "places:middle"], RecallOptions(per_label=2))
    assert [entry.query.name for entry in recalled.queries] == ["columns:middle", "far", "places:middle"]
    assert [entry.images.shape for entry in recalled.queries] == [(2, 1, 8, 8), (2, 1, 16, 16), (2, 1, 16, 16)]
    assert [loaded.name for loaded in recalled.bundles] == ["columns", "places"]


def test_rows_are_the_first_ones_or_drawn_by_a_seed(service: RecallService) -> None:
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


def test_the_images_of_a_label_do_not_depend_on_other_labels(service: RecallService) -> None:
    alone = service.recall_labels(["right"]).queries[0].images
    together = service.recall_labels(["left", "right", "far"]).queries[1].images
    assert_close(alone, together, terms=4)  # sums of another shape round otherwise


def test_the_same_recall_gives_the_same_bytes_and_describes_itself(service: RecallService) -> None:
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


def test_a_request_for_too_many_rows_is_refused_with_their_number(service: RecallService) -> None:
    assert len(service.recall_labels(["left"]).queries[0].rows) == ROWS
    with pytest.raises(InvalidRequest, match=f"'columns' recalls up to {ROWS} images per label, not {ROWS + 1}"):
        service.recall_labels(["left"], RecallOptions(per_label=ROWS + 1))


def test_a_recall_that_is_too_large_is_refused_before_it_is_made(serve: Serve) -> None:
    service = serve(max_recalled_numbers=2 * 64)
    service.recall_labels(["left"], RecallOptions(per_label=2))
    with pytest.raises(InvalidRequest, match="would recall 192 numbers, more than the 128"):
        service.recall_labels(["left"], RecallOptions(per_label=3))


def test_a_mixture_recalls_the_weighted_sum_of_its_labels(service: RecallService) -> None:
    memory = service.library.get("columns").bundle.memory
    recalled = service.recall_mixtures([{"left": 0.25, "RIGHT": 0.75}, {"middle": 2}], RecallOptions(bundle="columns"))
    mixed, single = recalled.queries
    assert (mixed.query.name, mixed.query.target) == ("0.25 left + 0.75 right", {"left": 0.25, "right": 0.75})
    assert (single.query.name, single.query.target) == ("2 middle", {"middle": 2})
    preprocessing = service.library.get("columns").bundle.preprocessing
    expected = preprocessing.to_pixels(memory.items(torch.tensor([[0.25, 0.0, 0.75]]))[0])
    assert_close(mixed.images, expected.numpy(), terms=4)
    targets = safetensors.torch.load(recalled.to_safetensors())["targets"]
    assert targets[0].tolist() == [0.25, 0.75, 0.0]


def test_a_vector_is_used_as_a_query(service: RecallService) -> None:
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
def test_invalid_mixtures_are_refused(service: RecallService, mixtures: list[dict[str, float]], sentence: str) -> None:
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
def test_invalid_vectors_are_refused(service: RecallService, vectors: list[list[float]], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        service.recall_vectors(vectors, RecallOptions(bundle="columns"))
    assert caught.value.parameter == "vectors"


def test_soft_targets_of_a_recall_are_over_the_requested_labels_of_a_bundle(tmp_path: Path, serve: Serve) -> None:
    soft, hard = with_soft_targets(label_bundle("columns", tuple(COLUMNS))), label_bundle("other", ("a", "b", "c"))
    library = Library({"columns": LoadedBundle(soft), "other": LoadedBundle(hard)})
    service = RecallService(library, serve().jobs, Settings(state=tmp_path))
    right, other, left = (entry.query.target for entry in service.recall_labels(["right", "a", "left"]).queries)
    assert other == {"a": 1.0}
    index = [tuple(COLUMNS).index(label) for label in ("right", "left")]
    asked = shares(soft)[index[0]][index]
    assert right == pytest.approx(dict(zip(("right", "left"), (asked / asked.sum()).tolist(), strict=True)))
    assert sum(left.values()) == pytest.approx(1)
    assert service.train_labels(["right", "left"]).record.labels == ("right", "left")
