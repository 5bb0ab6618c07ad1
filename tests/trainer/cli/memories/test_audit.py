"""`audit`: it catches memories of real pictures, guesses where there is nothing to find, and refuses bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.encoders.query_encoder import QueryEncoder
from tests.docs.pages import ROOT
from tests.trainer.cli.test_command_line import run
from tests.trainer.data.encoders.test_standard_form import SCALING, description, tower
from tests.trainer.data_examples import archives, picture_folder
from trainer.data.datasets import load_dataset
from trainer.data.encoders.standard_form import standard_form
from trainer.run.audit.shadows import FeatureShadows
from trainer.starts.features.linear_head import HeadSettings

QUICK = [f"--set=retraining.{each}" for each in ("network=convnet:filters=8,depth=1", "steps=20", "rows_per_class=12")]
OF_FEATURES = ["--encoder", "efficientnet-lite0", "--images-per-class", "3"]
EACH = 13  # pictures of a digit, of which one is for validation


def digits_data(folder: Path, part: int) -> Path:
    """Disjoint parts of scikit-learn's digits: EACH of each class to train on, and as many to test on."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    of_class = [np.flatnonzero(digits.target == digit)[2 * EACH * part :] for digit in range(10)]
    index = [np.concatenate([each[first : first + EACH] for each in of_class]) for first in (0, EACH)]
    fields = [{"images": images[some], "labels": digits.target[some]} for some in index]
    return archives(folder, classes=np.array(list("0123456789")), **fields[0], test=fields[1])


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_data(tmp_path_factory.mktemp("mine") / "mine", 0)


@pytest.fixture(scope="module")
def real(mine: Path) -> Path:
    """A memory of all training pictures of `mine`."""
    output = mine.parent / "real.safetensors"
    run(
        "distill",
        "--dataset",
        f"{mine}",
        "--method",
        "random",
        "--images-per-class",
        "12",
        "--output",
        f"{output}",
        *QUICK,
    )
    return output


def audited(bundle: Path, members: object, others: object, folder: Path, *further: str) -> Any:
    """The figures of an audit."""
    file = folder / "audit.json"
    run("audit", f"{bundle}", "--members", f"{members}", "--non-members", f"{others}", "--json", f"{file}", *further)
    return json.loads(file.read_text())


@pytest.mark.parametrize("shadows", ["0", "4"])
def test_a_memory_of_real_pictures_is_caught(real: Path, mine: Path, tmp_path: Path, shadows: str) -> None:
    found = audited(real, f"{mine}:train", f"{mine}:test", tmp_path, "--shadows", shadows)
    distance = found["attacks"]["distance"]
    assert distance["auroc"]["low"] > 0.9 and distance["advantage"]["low"] > 0.9
    assert distance["caught"]["low"] > 0.9
    assert found["neighbours"]["nearer"]["low"] > 0.9


def test_of_disjoint_pictures_nothing_is_found(real: Path, tmp_path: Path) -> None:
    other = digits_data(tmp_path / "other", 1)
    found = audited(real, f"{other}:train", f"{other}:test", tmp_path, "--shadows", "4")
    for attack in found["attacks"].values():
        assert attack["auroc"]["low"] < 0.55 and attack["auroc"]["high"] > 0.45
        assert attack["advantage"]["value"] < 1.5 * found["chance"]
    assert found["neighbours"]["nearer"]["low"] < 0.5 < found["neighbours"]["nearer"]["high"] + 0.1


def test_memories_with_bases_have_shadows_too(mine: Path, tmp_path: Path) -> None:
    """The methods principal, without outer steps, and window, with a few."""
    for method, further in (("principal", []), ("window", ["--outer-steps", "2"])):
        output, narrow = tmp_path / f"{method}.safetensors", "objective.network=convnet:filters=8,depth=1"
        small = ["--bases", "4", "--rows", "3", "--images-per-class", "3", "--set", narrow]
        run(
            "distill", "--dataset", f"{mine}", "--method", method, "--output", f"{output}", *small, *QUICK[:2], *further
        )
        found = audited(output, f"{mine}:train", f"{mine}:test", tmp_path, "--shadows", "4")
        assert set(found["attacks"]) == {"loss", "distance"}


def test_a_private_memory_of_pixels_says_what_it_promises_and_is_audited(mine: Path, tmp_path: Path) -> None:
    output = tmp_path / "private.safetensors"
    size = ["--images-per-class", "3", "--bases", "4", "--rows", "3", "--set", "epsilon=2", *QUICK[:2]]
    run("distill", "--dataset", f"{mine}", "--method", "private", "--output", f"{output}", *size)
    made = MemoryBundle.load(output).manifest
    assert made.provenance.hyper_parameters["epsilon"] == 2 and made.provenance.method == "private"
    assert made.accuracy and made.provenance.dataset_sha256 != load_dataset(str(mine)).digest
    run("card", f"{output}")
    assert "differential privacy with epsilon 2" in output.with_suffix(".md").read_text()
    found = audited(output, f"{mine}:train", f"{mine}:test", tmp_path, "--shadows", "4")
    assert set(found["attacks"]) == {"loss", "distance"}


@pytest.fixture
def bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a bundle, beside a tiny network in the place of the usual encoder."""
    monkeypatch.setenv("RECALL_CACHE", str(tmp_path / "cache"))
    encoders = tmp_path / "artifacts" / "encoders"
    encoders.mkdir(parents=True)
    (encoders / "efficientnet-lite0.onnx").write_bytes(standard_form(tower(), SCALING, description()))
    return tmp_path / "artifacts" / "bundles" / "bars.safetensors"


def feature_shadows(path: Path) -> FeatureShadows:
    bundle = MemoryBundle.load(path)
    reference = bundle.manifest.feature_encoder
    assert reference is not None
    encoder = encoder_folder(path) / reference.file
    shape = bundle.manifest.image.shape
    return FeatureShadows.of(bundle, QueryEncoder(encoder, reference.sha256, image_shape=shape, device="cpu"))


@pytest.mark.parametrize(("method", "settings"), [("exact", {"ridge": 0.02, "balance": 0.5}), ("private", {})])
def test_memories_of_features_are_audited(bars: Path, tmp_path: Path, method: str, settings: dict[str, float]) -> None:
    mine = picture_folder(tmp_path / "mine", "high", "low", each=75)
    others = picture_folder(tmp_path / "others", "high", "low", each=55, seed=1)
    chosen = [f"--set={name}={value}" for name, value in settings.items()]
    run("distill", "--dataset", f"{mine}", "--output", f"{bars}", "--method", method, *OF_FEATURES, *chosen)
    assert feature_shadows(bars).head == HeadSettings(**settings)
    found = audited(bars, f"{mine}:train", others, tmp_path, "--shadows", "4")
    assert set(found["attacks"]) == {"loss", "distance"}


def test_a_head_may_learn_beside_anchors(bars: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    mine = picture_folder(tmp_path / "mine", "high", "low", each=20)
    others = picture_folder(tmp_path / "others", "left", "right", each=20, seed=1)
    public, private = bars.with_name("public.safetensors"), bars.with_name("private.safetensors")
    run("distill", "--dataset", f"{others}", "--output", f"{public}", *OF_FEATURES)
    run("distill", "--dataset", f"{mine}", "--output", f"{bars}", "--anchors", f"{public}", *OF_FEATURES)
    made = MemoryBundle.load(bars).manifest.provenance.hyper_parameters
    assert made["anchors"] == MemoryBundle.load(public).sha256
    assert "trained beside anchors; --shadows 0" in refusal(
        refused, bars, "--members", f"{mine}:train", "--non-members", others
    )
    begin = "distill", "--dataset", f"{mine}", "--output", f"{private}", "--anchors"
    assert "name an --encoder, or leave it out" in refused(*begin, f"{public}")
    assert "--anchors is for the method exact" in refused(*begin, f"{public}", *OF_FEATURES, "--method", "features")
    assert "there is no bundle file none.safetensors" in refused(
        *begin, f"{tmp_path / 'none.safetensors'}", *OF_FEATURES
    )
    absent = "distill", "--dataset", f"{tmp_path / 'absent'}", *begin[3:-1], *OF_FEATURES
    said = refused(*absent, "--anchors", f"{tmp_path / 'none.safetensors'}")
    assert "there is no bundle file none.safetensors" in said, "before any picture is read"


def refusal(refused: Callable[..., str], *arguments: object) -> str:
    return " ".join(refused("audit", *map(str, arguments)).split())


def test_bad_pictures_are_refused(real: Path, mine: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    members = "--members", f"{mine}:train"
    assert "are among the members and among the non-members" in refusal(refused, real, *members, "--non-members", mine)
    few = "intervals at 1% false positives take 100 or more non-members; there are 10"
    assert few in refusal(refused, real, *members, "--non-members", f"{mine}:validation")
    (tmp_path / "empty").mkdir()
    assert "the folder" in (said := refusal(refused, real, *members, "--non-members", tmp_path / "empty"))
    assert "is empty" in said
    strange = picture_folder(tmp_path / "strange", "cat", "dog")
    unknown = "strange has the classes cat, dog, which real does not know; it knows 0, 1, 2, 3, 4, ..."
    assert unknown in refusal(refused, real, *members, "--non-members", strange)
    colour = np.zeros((20, 8, 8, 3), dtype=np.uint8)
    coloured = archives(tmp_path / "coloured", images=colour, labels=np.arange(20) % 2, classes=np.array(["0", "1"]))
    shape = "coloured has pictures of [3, 8, 8], and real is of [1, 8, 8]"
    assert shape in refusal(refused, real, *members, "--non-members", coloured)


def test_classes_without_pictures_have_no_shadows(real: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    two = [picture_folder(tmp_path / name, "0", "1", each=60, seed=seed) for seed, name in enumerate("ab")]
    sides = "--members", two[0], "--non-members", two[1]
    said = refusal(refused, real, *sides)
    assert "shadow memories take 4 or more pictures of every class; there are fewer of 2, 3, 4, 5, 6" in said
    assert "120 members, 120 non-members" in run("audit", f"{real}", *map(str, sides), "--shadows", "0")


def test_memories_whose_shadows_cannot_be_made_are_refused(
    real: Path, mine: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    sides = "--members", f"{mine}:train", "--non-members", f"{mine}:test"
    assert "come in pairs, 4 or more of them, not 3" in refusal(refused, real, *sides, "--shadows", "3")
    bundle = MemoryBundle.load(real)
    for method, settings, why in (
        ("import", {}, "its method 'import' is none of"),
        ("random", {"start.kind": "bundle"}, "it goes on from another memory"),
        ("random", {"memory.colour": "red"}, "its settings are not those of this version"),
        ("private", {}, "its settings are not those of this version"),
    ):
        made = bundle.manifest.provenance.model_copy(update={"method": method, "hyper_parameters": settings})
        other = MemoryBundle(
            bundle.manifest.model_copy(update={"provenance": made}), bundle.memory, bundle.preprocessing
        )
        other.save(tmp_path / "other.safetensors")
        said = refusal(refused, tmp_path / "other.safetensors", *sides)
        assert why in said and "--shadows 0 attacks it without them" in said


def test_memories_that_pictures_address_are_refused(mine: Path, refused: Callable[..., str]) -> None:
    bundle = ROOT / "artifacts" / "bundles" / "fashion-mnist-images.safetensors"
    said = refusal(refused, bundle, "--members", f"{mine}:train", "--non-members", f"{mine}:test")
    assert "is addressed by pictures; only memories with labels can be audited" in said


def test_a_private_memory_is_not_trained(mine: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    asked = "--dataset", f"{mine}", "--method", "private", "--output", f"{tmp_path / 'm.safetensors'}"
    said = " ".join(refused("distill", *asked, "--outer-steps", "3", "--minutes", "1").split())
    assert "a private memory is made at once; leave out --outer-steps and --minutes" in said
    assert "promise nothing" in " ".join(refused("distill", *asked, "--set", "epsilon=1e13").split())


def test_pictures_on_both_sides_are_found_by_their_features(
    bars: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    mine = picture_folder(tmp_path / "mine", "high", "low", each=75)
    run("distill", "--dataset", f"{mine}", "--output", f"{bars}", *OF_FEATURES)
    others = picture_folder(tmp_path / "others", "high", "low", each=55, seed=1)
    for number in range(3):
        shutil.copy(mine / "high" / f"{number:02}.png", others / "high" / f"copy{number}.png")
    said = refusal(refused, bars, "--members", mine, "--non-members", others)
    assert "3 pictures are among the members and among the non-members" in said


def test_another_encoder_is_refused(bars: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    mine = picture_folder(tmp_path / "mine", "high", "low")
    run("distill", "--dataset", f"{mine}", "--output", f"{bars}", *OF_FEATURES)
    encoder = bars.parent.parent / "encoders" / "efficientnet-lite0.onnx"
    encoder.write_bytes(encoder.read_bytes() + b" ")
    assert "sha256" in refusal(refused, bars, "--members", mine, "--non-members", mine)
