"""Going on from a bundle and adding classes to it: what it knew stays, and what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import AddressedBases, Storage
from recall_server.core.preprocessing import Projected, Standardise
from recall_server.errors import InvalidDataset
from tests.recall_server import bundle_examples
from tests.tolerances import assert_close
from tests.trainer.data_examples import rows
from trainer.data.datasets import load_dataset
from trainer.data.splits import Split
from trainer.starts.add_classes import NewClass, add_classes
from trainer.starts.from_bundle import check_continuable, resume_from_bundle


def pictures(count: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def recalled(bundle: MemoryBundle, *labels: str) -> torch.Tensor:
    return bundle.memory.items(bundle.label_queries(labels))


def test_old_classes_recall_the_same_bits() -> None:
    before = bundle_examples.example_bundle()
    after = add_classes(before, [NewClass("new", pictures())])
    assert after.labels == ("class 0", "class 1", "class 2", "new")
    assert torch.equal(recalled(after, *before.labels), recalled(before, *before.labels))
    assert after.manifest.budget.dataset_bytes == before.manifest.budget.dataset_bytes + 12 * 64
    assert after.manifest.provenance.dataset_sha256 != before.manifest.provenance.dataset_sha256
    assert MemoryBundle.from_bytes(after.to_bytes()).labels == after.labels


def test_a_new_class_has_a_hard_target_and_soft_targets_of_old_ones_stay() -> None:
    before = bundle_examples.with_soft_targets(bundle_examples.example_bundle())
    after = add_classes(before, [NewClass("new", pictures())])
    torch.testing.assert_close(bundle_examples.shares(after)[:3, :3], bundle_examples.shares(before), rtol=0, atol=1e-5)
    torch.testing.assert_close(bundle_examples.shares(after)[3], torch.tensor([0.0, 0, 0, 1]), rtol=0, atol=1e-5)
    assert after.manifest.budget.numbers_stored == after.memory.stored_numbers()


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_a_bundle_with_new_classes_keeps_its_storage(storage: Storage) -> None:
    before = MemoryBundle.from_bytes(replace(bundle_examples.example_bundle(), storage=storage).to_bytes())
    after = MemoryBundle.from_bytes(add_classes(before, [NewClass("new", pictures())]).to_bytes())
    assert (before.storage, after.storage) == (storage, storage)


def test_a_new_class_recalls_its_pictures_within_the_span_of_the_bases() -> None:
    """Pictures made of the bases themselves come back as they were."""
    bundle = bundle_examples.example_bundle()
    assert isinstance(bundle.memory, AddressedBases)
    mixtures = 0.1 * torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    images = torch.einsum("nk,kchw->nchw", mixtures, bundle.memory.span())
    pixels = (bundle.preprocessing.to_pixels(images).clamp(0, 1) * 255).round().to(torch.uint8)
    after = add_classes(bundle, [NewClass("new", pixels)])
    shown = bundle.preprocessing.to_pixels(recalled(after, "new")[0])
    assert (shown - pixels / 255).abs().max() < 0.02


def projected_bundle() -> MemoryBundle:
    bundle = bundle_examples.example_bundle()
    assert isinstance(bundle.memory, AddressedBases) and isinstance(bundle.preprocessing, Standardise)
    preprocessing = Projected.onto(bundle.memory.span(), bundle.preprocessing)
    return MemoryBundle(bundle_examples.example_manifest(bundle.memory, preprocessing), bundle.memory, preprocessing)


@pytest.mark.parametrize(
    "before", [bundle_examples.example_bundle(), projected_bundle()], ids=["standardised", "projected"]
)
def test_further_bases_improve_new_classes_and_do_not_change_old_ones(before: MemoryBundle) -> None:
    new = pictures(2)

    def distance(bundle: MemoryBundle) -> float:
        return float((bundle.preprocessing.to_pixels(recalled(bundle, "new")[0]) - new / 255).norm())

    few, more = (add_classes(before, [NewClass("new", new)], further_bases=count) for count in (0, 3))
    assert distance(more) < distance(few)
    assert_close(recalled(more, *before.labels), recalled(before, *before.labels), terms=64)
    if isinstance(more.preprocessing, Projected):
        assert len(more.preprocessing.directions) == len(more.memory.tensors()["bases"]), "pictures keep what is added"
    plain = add_classes(bundle_examples.example_bundle(), [NewClass("new", new)], further_bases=3)
    assert_close(recalled(more, "new"), recalled(plain, "new"), terms=64)


def test_classes_beyond_the_budget_are_refused() -> None:
    memory, preprocessing = bundle_examples.example_memory(), bundle_examples.example_bundle().preprocessing
    tight = bundle_examples.example_manifest(memory, preprocessing)
    tight = tight.model_copy(update={"budget": tight.budget.model_copy(update={"images_per_class": 0.5})})
    bundle = MemoryBundle(tight, memory, preprocessing)
    with pytest.raises(ValueError, match=r"numbers are more than the 128 of 0\.5 images per class for 4 classes"):
        add_classes(bundle, [NewClass("new", pictures())], further_bases=8)


@pytest.mark.parametrize(
    ("size", "stored", "sentence"),
    [
        (114, 57, "a half-resolution image has 3249 numbers, more than the 3072 that further bases can be found for"),
        (
            8,
            8,
            "the bases are stored at 8x8, and further ones can only be found where they are at half resolution, 4x4",
        ),
    ],
)
def test_memories_for_which_further_bases_cannot_be_computed_are_refused(size: int, stored: int, sentence: str) -> None:
    memory = AddressedBases(torch.randn(4, 1, stored, stored), torch.randn(2, 3, 4), size, size)
    preprocessing = bundle_examples.example_preprocessing()
    bundle = MemoryBundle(bundle_examples.example_manifest(memory, preprocessing), memory, preprocessing)
    images = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    with pytest.raises(ValueError, match=sentence):
        add_classes(bundle, [NewClass("new", images)], further_bases=1)
    assert "new" in add_classes(bundle, [NewClass("new", images)]).labels, "without further bases it takes up classes"


@pytest.mark.parametrize(("names", "known"), [(("class 1",), "class 1"), (("new", "new"), "new")])
def test_a_name_that_exists_is_refused(names: tuple[str, ...], known: str) -> None:
    with pytest.raises(ValueError, match=f"knows '{known}' already; give the folder another --name"):
        add_classes(bundle_examples.example_bundle(), [NewClass(name, pictures()) for name in names])


def test_an_invalid_name_is_refused() -> None:
    with pytest.raises(ValueError, match="must not contain ':' or ','"):
        add_classes(bundle_examples.example_bundle(), [NewClass("cat, tabby", pictures())])


def test_pictures_of_a_new_class_exclude_the_test_pictures_of_its_folder(tmp_path: Path) -> None:
    for name, shade in (("new", 0), ("old", 128)):
        (tmp_path / name).mkdir()
        for number in range(60):
            Image.fromarray(np.full((8, 8), shade + 2 * number, np.uint8)).save(tmp_path / name / f"{number}.png")
    new = NewClass.read(tmp_path / "new", bundle_examples.example_bundle())
    whole = load_dataset(str(tmp_path), image_size=8)
    used, tested = rows(new.images), rows(whole.test.images)
    assert len(used) > 40 and not used & tested


def test_a_folder_of_pictures_is_read_as_by_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((20, 30, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    new = NewClass.read(folder, bundle_examples.example_bundle())
    assert (new.name, tuple(new.images.shape)) == ("new", (2, 1, 8, 8))  # one is a test picture
    (sentence,) = new.unreadable
    assert sentence.startswith("new/broken.png is no ")
    for path in folder.glob("?.png"):
        path.unlink()
    with pytest.raises(InvalidDataset, match=r"no picture in new can be read: new/broken\.png"):
        NewClass.read(folder, bundle_examples.example_bundle())
    with pytest.raises(InvalidDataset, match="nowhere is not a folder of pictures"):
        NewClass.read(tmp_path / "nowhere", bundle_examples.example_bundle())


def test_old_classes_keep_their_coefficients_among_new_ones() -> None:
    bundle = bundle_examples.example_bundle()
    classes = ("before", "class 0", "class 1", "between", "class 2")
    check_continuable(bundle, classes, (1, 8, 8), "standardise")
    split = Split(pictures(10), torch.tensor([0, 3]).repeat(5))
    memory = resume_from_bundle(bundle, classes, split, torch.Generator().manual_seed(0))
    assert isinstance(memory, AddressedBases)
    assert isinstance(bundle.memory, AddressedBases)
    assert torch.equal(memory.addressing[:, [1, 2, 4]], bundle.memory.addressing)
    assert bool(memory.addressing[:, [0, 3]].abs().sum(dim=(0, 2)).gt(0).all())


@pytest.mark.parametrize(
    ("classes", "shape", "preprocessing", "sentence"),
    [
        (("class 0", "class 1", "class 2"), (1, 9, 8), "standardise", r"recalls images of \[1, 8, 8\], but the data"),
        (("class 0", "class 1", "class 2"), (3, 8, 8), "standardise", r"the data set has \[3, 8, 8\]"),
        (("class 0", "class 1", "class 2"), (1, 8, 8), "zca", "has the preprocessing 'standardise', not 'zca'"),
        (("class 0", "class 2"), (1, 8, 8), "standardise", "the data set lacks 'class 1', which the bundle example"),
        (("class 1", "class 0", "class 2"), (1, 8, 8), "standardise", "its labels in the order class 0, class 1, cla"),
    ],
)
def test_a_bundle_of_another_shape_is_refused_with_what_differs(
    classes: tuple[str, ...], shape: tuple[int, int, int], preprocessing: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_continuable(bundle_examples.example_bundle(), classes, shape, preprocessing)


def test_a_bundle_stays_in_its_own_model_space() -> None:
    """Coefficients mean something in one space only: new pictures are brought into the bundle's."""
    bundle = bundle_examples.example_bundle()
    assert isinstance(bundle.preprocessing, Standardise)
    after = add_classes(bundle, [NewClass("new", pictures())])
    assert after.preprocessing is bundle.preprocessing
