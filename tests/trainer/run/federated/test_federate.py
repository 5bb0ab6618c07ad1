"""Memories of clients become one memory, which knows what no client knows; what cannot be merged is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import EncoderReference, ImageDescription
from recall_server.core.memory import DescribedClasses
from recall_server.core.preprocessing import Standardise
from recall_server.errors import InvalidBundle
from tests.recall_server.bundle_examples import example_bundle
from tests.tolerances import assert_close
from tests.trainer.run.federated.client_examples import (
    CLASSES,
    MEANS,
    WIDTH,
    client_bundle,
    features,
    labelled,
    write_clients,
)
from trainer.data.splits import Split
from trainer.run.federated.clients import read_client, read_clients
from trainer.run.federated.federate import federate, weighting
from trainer.run.federated.merging import aligned_head, class_shares, have_same_anchors
from trainer.run.federated.picture_counts import picture_counts, read_counts
from trainer.run.search.feature_memory import heads_accuracy
from trainer.starts.features.anchors import Anchors
from trainer.starts.features.described_classes import best_head
from trainer.starts.features.trained_features import Labelled

ONE, TWO = {"ant": 60, "bee": 60, "cat": 10}, {"cat": 50, "dog": 60, "elk": 60, "fox": 60}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_clients(tmp_path / "clients", one=client_bundle(ONE), two=client_bundle(TWO, seed=1))


def test_the_merged_memory_tells_apart_what_no_client_has_together(folder: Path, tmp_path: Path) -> None:
    clients = read_clients(folder)
    made = federate(clients, tmp_path / "merged.safetensors")
    assert made.labels == CLASSES
    assert MemoryBundle.load(tmp_path / "merged.safetensors").sha256 == made.sha256
    data = labelled(dict.fromkeys(CLASSES, 100), seed=2)
    pixels = made.preprocessing.to_pixels(data.features[:, :, None, None])
    assert heads_accuracy(made, Split(pixels, data.labels)).mean > 0.97
    head = read_client(tmp_path / "merged.safetensors").head
    right = (data.features @ head.T).argmax(dim=1) == data.labels
    assert float(right.float().mean()) == pytest.approx(heads_accuracy(made, Split(pixels, data.labels)).mean)


def test_heads_that_differ_by_a_common_vector_are_one_head(folder: Path) -> None:
    clients = read_clients(folder)
    wanted = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0))
    places = [torch.tensor([0, 1, 2]), torch.tensor([2, 3, 4, 5])]
    heads = [wanted[place] - wanted[place].mean(dim=0) for place in places]
    given = [SimpleNamespace(head=head, anchors=None) for head in heads]
    found = aligned_head(given, places, class_shares(clients, places, 6), 6)  # type: ignore[arg-type]
    differences = found - found[2], wanted - wanted[2]
    assert float((differences[0] - differences[1]).norm() / differences[1].norm()) < 0.2, "FIRM shrinks them a little"
    data = labelled(dict.fromkeys(CLASSES, 100), seed=2).features
    assert (((data @ found.T).argmax(1) == (data @ wanted.T).argmax(1)).float().mean()) > 0.9


def around(means: Tensor, seed: int) -> Labelled:
    """A hundred features of length sqrt(D) around each of the means [C, D]."""
    noise = torch.randn(100, *means.shape, generator=torch.Generator().manual_seed(seed))
    found = torch.nn.functional.normalize(means + 0.2 * noise, dim=2).flatten(0, 1)
    return Labelled(WIDTH**0.5 * found, torch.arange(len(means)).repeat(100))


def test_heads_of_different_classes_can_be_compared_beside_the_same_anchors(folder: Path) -> None:
    """The classes of a client have more in common than a class of its own, which its head alone does not say."""
    directions = torch.eye(WIDTH)
    means = [directions[group] + 0.5 * directions[2 + 3 * group : 5 + 3 * group] for group in (0, 1)]
    others = Anchors(around(torch.eye(WIDTH)[8:], seed=1), WIDTH - 8, "0" * 64)
    places, shares = [torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])], [torch.ones(3)] * 2
    data, found = around(torch.cat(means), seed=2), []
    for anchors in (None, others):
        parts = [around(own, seed=3 + group) for group, own in enumerate(means)]
        heads = [best_head(part, part, 3, bias=False, anchors=anchors).head.weights for part in parts]
        said = None if anchors is None else anchors.sha256
        given = [SimpleNamespace(head=head, anchors=said) for head in heads]
        head = aligned_head(given, places, shares, 6)  # type: ignore[arg-type]
        found.append(float(((data.features @ head.T).argmax(dim=1) == data.labels).float().mean()))
    assert found[1] > found[0] + 0.1


def test_anchors_are_the_same_if_all_clients_name_one_digest() -> None:
    def named(*digests: str | None) -> bool:
        return have_same_anchors([SimpleNamespace(anchors=each) for each in digests])  # type: ignore[misc]

    assert named("1", "1", "1")
    assert not any([named("1", "2"), named("1", None), named(None, "1"), named(None, None)])


def test_its_classes_look_as_they_do_at_the_clients(folder: Path, tmp_path: Path) -> None:
    made = federate(read_clients(folder), tmp_path / "merged.safetensors")
    assert isinstance(made.memory, DescribedClasses)
    means = made.memory.typical(torch.eye(len(CLASSES))).mean(dim=1)
    nearest = torch.nn.functional.normalize(means, dim=1) @ MEANS.T
    assert nearest.argmax(dim=1).tolist() == list(range(len(CLASSES)))
    assert made.manifest.provenance.hyper_parameters["clients"] == 2


def test_equal_files_give_an_equal_memory(folder: Path, tmp_path: Path) -> None:
    first, again = (federate(read_clients(folder), tmp_path / f"{name}.safetensors") for name in ("a", "b"))
    for name, tensor in first.memory.tensors().items():
        assert torch.equal(tensor, again.memory.tensors()[name])


def test_a_class_is_shared_by_numbers_of_pictures(folder: Path) -> None:
    clients = read_clients(folder)
    places = [torch.tensor([0, 1, 2]), torch.tensor([2, 3, 4, 5])]
    one, two = class_shares(clients, places, 6)
    assert_close(one, torch.tensor([1, 1, 10 / 60]))
    assert_close(two, torch.tensor([50 / 60, 1, 1, 1]))
    unknown = [clients[0]._replace(counts=None), clients[1]]
    one, two = class_shares(unknown, places, 6)
    assert_close(one, torch.tensor([1, 1, 0.5]))
    assert_close(two, torch.tensor([0.5, 1, 1, 1]))
    assert "equally" in weighting(unknown)
    assert "pictures" in weighting(clients)


def test_a_client_may_have_one_class(tmp_path: Path) -> None:
    folder = write_clients(tmp_path / "clients", one=client_bundle({"ant": 30}), two=client_bundle({"bee": 30}, seed=1))
    made = federate(read_clients(folder), tmp_path / "merged.safetensors")
    head = read_client(tmp_path / "merged.safetensors").head
    assert made.labels == ("ant", "bee")
    for label, name in enumerate(made.labels):
        assert bool(((features(name, 40, seed=3) @ head.T).argmax(dim=1) == label).all())


def test_a_label_in_decomposed_unicode_is_the_same_class(tmp_path: Path) -> None:
    one = client_bundle({"ant": 30, "bee": 30}, labels=("é", "b"))
    two = client_bundle({"ant": 30, "cat": 30}, labels=("e\u0301", "c"))
    clients = read_clients(write_clients(tmp_path / "clients", one=one, two=two))
    assert federate(clients, tmp_path / "merged.safetensors").labels == ("é", "b", "c")


OTHER = EncoderReference(file="e.onnx", sha256="1" * 64, query_size=WIDTH)


@pytest.mark.parametrize(
    ("bundle", "said"),
    [
        (client_bundle(TWO, feature_encoder=OTHER), r"two sees .*e\.onnx \(111111111111\) .* one through e\.onnx"),
        (client_bundle(TWO, image=ImageDescription(channels=1, height=9, width=9)), "at 9x9 .*one size of pictures"),
        (
            client_bundle(TWO, space=Standardise(torch.zeros(WIDTH), torch.ones(WIDTH))),
            "two are standardised otherwise",
        ),
        (client_bundle(TWO, labels=("Cat", "dog", "elk", "fox")), "two has the label 'Cat' and one the label 'cat'"),
        (example_bundle(), r"two\.safetensors is a memory addressed_bases of pixels"),
    ],
    ids=["encoder", "size", "space", "spelling", "pixels"],
)
def test_memories_that_do_not_belong_together_are_refused(bundle: MemoryBundle, said: str, folder: Path) -> None:
    bundle.save(folder / "two.safetensors")
    with pytest.raises(ValueError, match=said):
        read_clients(folder)


def test_hostile_bundles_and_too_few_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("number-infinite", "description-below-zero", "recall-bomb", "pickle"):
        shutil.copy(f"tests/hostile_bundles/{name}.safetensors", folder / "two.safetensors")
        with pytest.raises(InvalidBundle, match="two.safetensors"):
            read_clients(folder)
    (folder / "two.safetensors").unlink()
    for place in (folder, tmp_path / "nothing"):
        with pytest.raises(ValueError, match="two clients or more"):
            read_clients(place)


@pytest.mark.parametrize("text", ["60,60", "60,60,-1", "60,60,x", "60,60,\u0661", "1,2,99999999999", "60,60,10,1", 3.5])
def test_counts_that_are_no_counts_are_refused(text: object, folder: Path) -> None:
    bundle = client_bundle(ONE)
    provenance = bundle.manifest.provenance.model_copy(update={"hyper_parameters": {"pictures_per_class": text}})
    manifest = bundle.manifest.model_copy(update={"provenance": provenance})
    MemoryBundle(manifest, bundle.memory, bundle.preprocessing).save(folder / "one.safetensors")
    with pytest.raises(ValueError, match=r"one\.safetensors: its pictures_per_class must be"):
        read_clients(folder)


def test_counts_of_more_classes_than_a_text_can_hold_are_left_out() -> None:
    assert picture_counts(torch.full((3,), 4)) == {"pictures_per_class": "4,4,4"}
    assert picture_counts(torch.zeros(600)) == {}
    assert read_counts(client_bundle(ONE, counted=False)) is None
