"""Requests that the commands refuse: in one sentence, before they read a picture, train or write anything."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recall_server.bundle_examples import example_bundle
from tests.trainer.cli.test_command_line import SMALL
from trainer.data.datasets import ImageDataset

COMMANDS = {
    "distill": f"distill --dataset {{bars}} --output x.safetensors --bases 2 {' '.join(SMALL)}",
    "evaluate": "evaluate bars.safetensors --dataset {bars} --record",
    "grid": "grid --datasets {bars} --output grid",
    "select-bases": "select-bases --dataset {bars} --output c.json",
    "quickstart": "quickstart no-folder --artifacts served",  # that there is no folder would be the next complaint
    "add-class": "add-class bars.safetensors no-folder --overwrite",
}
REFUSED = {
    "distill": {
        "--dataset nothing-like-it": "neither a folder nor one of the known data sets",
        "--output bundle.pt": "--output must end in .safetensors",
        "--bases 1000": "do not fit in 1 images per class; try with at most",
        "--bases 0": "a memory needs one basis or more, not 0",
        "--bytes 2000": "more than 2000; all but the memory takes",
        "--storage int4": "storage: Input should be 'float32', 'bfloat16' or 'int8'",
        "--bytes 9000 --images-per-class 1": "--bytes and --images-per-class both set the budget",
        "--method magic": "unknown method 'magic'",
        "--set objective.network=transformer": "there is no network 'transformer'; there are convnet, resnet",
        "--resume": "is not a checkpoint that can be resumed",
        "--set retraining.network=convnet:depth=4": "images of 8x8 are too small for 4 poolings",
        "--output .": "--output must end in .safetensors",
        "--device tpu": "unknown device 'tpu'; use auto, cpu or cuda",
    },
    "evaluate": {
        "--network resnet12": "there is no network 'resnet12'; there are convnet, resnet",
        "--network convnet:depth=4": "images of 8x8 are too small for 4 poolings; use a depth of 3 or less",
        "--network mlp:filters=3": "mlp takes hidden and depth, not filters",
        "--protocol papper": "unknown protocol 'papper'; use paper, common, bundle",
        "--epochs 3 --steps 3": "--epochs and --steps both set the length of the training",
        "--augmentation crop": "unknown augmentation 'crop'; use none, flip, flip+rotate",
        "--steps 1000000": "less than or equal to 100000",
        "--ray auto": "--ray auto is not the address of a running Ray cluster",
    },
    "grid": {
        "--methods dmm": "unknown method 'dmm'",
        "--methods image-addressing": "image-addressing is addressed by pictures",
        "--networks convnet:filters": "is not a network",
        "--networks convnet:depth=5": "too small for 5 poolings",
        "--networks resnet:filters=8": "error: resnet takes shrink, not filters\n",
        "--images-per-class 0": "--images-per-class must be numbers separated by commas, such as 1,10, not '0'",
        "--seeds a": "--seeds must be numbers separated by commas",
        "--datasets nowhere": "neither a folder nor one of the known data sets",
    },
    "quickstart": {
        "--name 'my pets'": "a bundle cannot be called 'my pets'",
        "--artifacts file": "file is no folder",
        "--picture .": "--picture must name a file",
        "--device tpu": "unknown device 'tpu'",
    },
    "add-class": {
        "--name 'cat, tabby'": "must not contain ':' or ','",
        "--name ' cat'": "must not begin or end with white space",
        "--name 'top'": "knows 'top' already",
        "--name a --name b": "1 folders need 1 times --name",
        "--output 'my pets.safetensors'": "a bundle cannot be called 'my pets'",
        "--output pets.pt": "must end in .safetensors",
    },
    "select-bases": {
        "--bases 4,x": "--bases must be comma-separated whole numbers, such as 8,16,24, not '4,x'",
        "--bases 0": "a memory needs one basis or more, not 0",
        "--output curve.txt": "--output must end in .json, not 'curve.txt'",
    },
}


@pytest.mark.parametrize(
    ("command", "options"), [(command, options) for command, cases in REFUSED.items() for options in cases]
)
def test_bad_requests_end_in_one_sentence_and_leave_no_file(
    bars: Path, refused: Callable[..., str], command: str, options: str
) -> None:
    before = contents()
    said = refused(*shlex.split(f"{COMMANDS[command].format(bars=bars)} {options}"))
    assert said.startswith("error: ") and REFUSED[command][options] in said
    assert contents() == before


@pytest.fixture
def bars(bars_folder: Path, bars_dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of bars. The working folder has a memory of them, and a file."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"")
    bundle = example_bundle(labels=bars_dataset.classes)
    made = bundle.manifest.provenance.model_copy(update={"dataset_sha256": bars_dataset.digest})
    example_bundle(labels=bars_dataset.classes, provenance=made).save(Path("bars.safetensors"))
    return bars_folder


def contents() -> dict[Path, bytes]:
    """Every file below the working folder."""
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
