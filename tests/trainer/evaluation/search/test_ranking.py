"""Networks are ranked by a memory and by all pictures, and the two orders are compared."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import ImageDescription
from recall_server.core.networks import NetworkSpec
from tests.trainer.cli.test_command_line import run
from trainer.evaluation.search.ranking import spearman
from trainer.evaluation.search.space import check_space, parse_candidate, small_space, varied_space

DIGITS = Path("artifacts/bundles/digits.safetensors")
SPACE = ("convnet:filters=16,depth=1", "mlp:hidden=4", "convnet:filters=4,depth=2,norm=none,pooling=max")


def test_networks_are_ranked_on_digits(tmp_path: Path) -> None:
    networks = [part for network in SPACE for part in ("--networks", network)]
    file = tmp_path / "ranking.json"
    said = run("rank", str(DIGITS), "--dataset", "digits", *networks, "--runs", "1", "--json", str(file))
    found = json.loads(file.read_text())
    assert [parse_candidate(each["network"]) for each in found["networks"]] == list(map(parse_candidate, SPACE))
    columns = {way: [each[way] for each in found["networks"]] for way in ("memory", "random", "everything")}
    assert all(each["everything"] > each["random"] for each in found["networks"][:2]), "there are more of them"
    assert found["memory_correlation"] == pytest.approx(spearman(columns["memory"], columns["everything"]))
    assert f"memory {found['memory_correlation']:.2f}, random real pictures {found['random_correlation']:.2f}" in said
    assert found["networks"][0]["network"] in said


def test_correlation_is_of_ranks() -> None:
    assert spearman([1, 2, 3], [1, 10, 11]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1, 1], [1, 2, 3]) == 0


def test_the_small_space_has_what_fits() -> None:
    bundle = MemoryBundle.load(DIGITS)
    space = small_space(bundle)
    check_space(space, bundle)
    assert len(space) == 18
    small = bundle.manifest.model_copy(update={"image": ImageDescription(channels=1, height=4, width=4)})
    assert len(varied := varied_space(bundle)) == 108
    check_space(varied, bundle)
    fewer = small_space(SimpleNamespace(manifest=small, labels=bundle.labels))  # type: ignore[arg-type]
    assert NetworkSpec(filters=8, depth=3) not in fewer, "4 pixels cannot be halved three times"


@pytest.mark.parametrize(
    ("name", "networks", "said"),
    [
        ("digits", ("convnet", "mlp"), "3 different networks"),
        ("digits", ("mlp", "mlp", "resnet"), "3 different networks"),
        ("digits", ("mlp", "resnet", "convnet:depth=6"), "depth"),
        ("digits", ("mlp", "resnet", "convnet:shrink=2"), "leave out shrink"),
        ("digits", ("mlp", "resnet", "convnet:filters=6,norm=group"), "4 groups, which do not divide 6 filters"),
        ("digits", ("mlp", "resnet", "convnet:depth=5,pooling=max"), "too small for 5 poolings"),
        ("fashion-mnist-images", SPACE, "cannot rank networks"),
        ("cifar10-features", SPACE, "cannot rank networks"),
    ],
)
def test_what_cannot_be_ranked_is_refused(name: str, networks: tuple[str, ...], said: str) -> None:
    bundle = MemoryBundle.load(Path("artifacts/bundles") / f"{name}.safetensors")
    with pytest.raises(ValueError, match=said), torch.no_grad():
        check_space(list(map(parse_candidate, networks)), bundle)
