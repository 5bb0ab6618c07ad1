"""The command line from data to bundle: distill, interrupt, resume, evaluate, inspect."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.library.library import Library
from tests.trainer.data_examples import picture_folder
from trainer.cli.app import app, main
from trainer.data.datasets import ImageDataset

# Compiling costs half a minute and is tested with the unroll; here the steps run eagerly.
SMALL = "--set objective.network=convnet:filters=4,depth=2 --set objective.steps=4 --set objective.window=2".split()
SMALL += "--set objective.real_batch=12 --set objective.rate=0.1 --set objective.eager=true".split()
SMALL += "--set retraining.network=convnet:filters=8,depth=2 --set retraining.steps=40".split()
FEW_PICTURES = "--set objective.classes_per_step=2 --set queries.shots=2 --set queries.size=5"
BUDGET = "--images-per-class 2 --bases 4".split()


def distill(folder: Path, output: Path, *arguments: str) -> list[str]:
    return ["distill", "--dataset", str(folder), "--output", str(output), *BUDGET, *SMALL, *arguments]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def bundle(bars_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifacts") / "bundles" / "bars.safetensors"
    run(*distill(bars_folder, path, "--outer-steps", "5", "--validate-every", "5"))
    return path


def test_distill_writes_a_bundle_with_its_provenance(bundle: Path, bars_dataset: ImageDataset) -> None:
    manifest = MemoryBundle.load(bundle).manifest
    assert manifest.labels == ("top", "middle", "bottom")
    assert manifest.provenance.dataset_sha256 == bars_dataset.digest
    assert (manifest.provenance.outer_steps, manifest.provenance.method) == (5, "window")
    assert manifest.budget.numbers_stored <= 2 * 3 * 64
    assert manifest.provenance.hyper_parameters["memory.bases"] == 4


def test_a_distilled_memory_trains_a_fresh_network(bundle: Path, bars_folder: Path) -> None:
    output = run(
        "evaluate", str(bundle), "--dataset", str(bars_folder), "--runs", "2", "--record", "--protocol", "bundle"
    )
    assert "recalled" in output
    assert "random real images" in output
    (row,) = MemoryBundle.load(bundle).manifest.accuracy
    assert row.mean > 0.9
    assert (row.runs, row.protocol) == (2, "bundle")
    assert f"{100 * row.mean:.2f}" in run("inspect", str(bundle))


def test_inspect_draws_bases_and_recalled_images(bundle: Path, tmp_path: Path) -> None:
    picture = tmp_path / "bars.png"
    output = run("inspect", str(bundle), "--picture", str(picture))
    assert "top, middle, bottom" in output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_memory_addressed_by_pictures_comes_with_its_encoder(bars_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bundles" / "bars-images.safetensors"
    settings = f"{FEW_PICTURES} --set queries.encoder=convnet:filters=4,depth=2"
    run(
        *distill(bars_folder, path, "--method", "image-addressing", "--outer-steps", "2", "--rows", "6"),
        *settings.split(),
    )
    bundle, encoder = with_encoder(path)
    assert "nearest class mean" in run("evaluate", str(path), "--dataset", str(bars_folder), "--runs", "1")
    queries = torch.from_numpy(encoder.encode(torch.rand(3, 1, 8, 8).numpy()))
    assert bundle.memory.items(queries).shape == (3, 6, 1, 8, 8)


def test_a_memory_with_pretrained_classifiers_is_distilled_evaluated_and_served(
    bars_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bundles" / "bars-images.safetensors"
    networks = ("objective.network", "retraining.network", "queries.encoder")
    same = " ".join(f"--set {name}=convnet:filters=4,depth=2" for name in networks)
    settings = f"{FEW_PICTURES} --set queries.pretraining_steps=20 {same}".split()
    run(
        *distill(bars_folder, path, "--method", "image-addressing-warm", "--outer-steps", "2", "--rows", "6"), *settings
    )
    assert MemoryBundle.load(path).manifest.retraining.initial == "encoder"
    assert "nearest class mean" in run("evaluate", str(path), "--dataset", str(bars_folder), "--runs", "1")
    with pytest.raises(ValueError, match="start from its encoder, a convnet:filters=4,depth=2, and the schedule"):
        run("evaluate", str(path), "--dataset", str(bars_folder), "--network", "convnet:filters=8,depth=2")
    with pytest.raises(ValueError, match="bars-images.safetensors is addressed by pictures; its episodes are trained"):
        run("evaluate", str(path), "--dataset", str(bars_folder), "--ray", "127.0.0.1:1")
    loaded = Library.load(tmp_path).get("bars-images")
    assert loaded.pretrained is not None and "block1.convolution.weight" in loaded.pretrained


def with_encoder(path: Path) -> tuple[MemoryBundle, QueryEncoder]:
    """A bundle, and the encoder that it refers to."""
    bundle = MemoryBundle.load(path)
    reference = bundle.manifest.query_encoder
    assert reference is not None
    return bundle, QueryEncoder(encoder_folder(path) / reference.file, reference.sha256)


def interrupted(*arguments: str, when: Path) -> tuple[int, str]:
    """Exit status and stderr of a real process that gets a Ctrl-C as soon as the file `when` is there."""
    process = subprocess.Popen([sys.executable, "-m", "trainer", *arguments], stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and not when.exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=100)
    finally:
        process.kill()
    return process.returncode, message


@pytest.mark.process
def test_ctrl_c_keeps_a_checkpoint_and_resuming_ends_in_the_same_bytes(
    bars_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, halves = tmp_path / "whole" / "bars.safetensors", tmp_path / "halves" / "bars.safetensors"
    steps = ["--outer-steps", "40", "--validate-every", "20"]
    run(*distill(bars_folder, whole, *steps))
    # The run writes its first checkpoint as it starts.
    status, message = interrupted(
        *distill(bars_folder, halves, *steps, "--threads", "1"), when=halves.with_suffix(".checkpoint")
    )
    assert status == 130, message
    assert "the best bundle so far and the checkpoint are kept, continue with --resume" in message
    assert MemoryBundle.load(halves).labels == ("top", "middle", "bottom"), "what there is can be served"

    with pytest.raises(SystemExit):
        refuse_to_overwrite = ["recall-trainer", *distill(bars_folder, halves, *steps)]
        monkeypatch.setattr(sys, "argv", refuse_to_overwrite)
        main()
    assert "holds an unfinished run; go on with --resume" in capsys.readouterr().err

    run(*distill(bars_folder, halves, *steps, "--threads", "1", "--resume"))
    assert not halves.with_suffix(".checkpoint").exists()
    one, other = MemoryBundle.load(whole), MemoryBundle.load(halves)
    for name, tensor in one.memory.tensors().items():
        assert tensor.numpy().tobytes() == other.memory.tensors()[name].numpy().tobytes()


def test_classes_with_fewer_pictures_than_a_batch_are_distilled(tmp_path: Path) -> None:
    """Three pictures of one class to learn from, where each outer step wants twenty."""
    folder, output = picture_folder(tmp_path / "few", "high", "middle", each=5), tmp_path / "few.safetensors"
    run(*distill(folder, output, "--outer-steps", "2", "--image-size", "8", "--set", "objective.real_batch=40"))
    assert MemoryBundle.load(output).manifest.provenance.outer_steps == 2


def test_an_invalid_class_name_is_refused_before_distilling(tmp_path: Path, refused: Callable[..., str]) -> None:
    for split in ("train", "test"):
        images, labels = np.zeros((8, 8, 8), np.uint8), np.arange(8) % 2
        np.savez(tmp_path / f"{split}.npz", images=images, labels=labels, classes=["cat, tabby", "dog"])
    output = tmp_path / "pets.safetensors"
    said = refused(*distill(tmp_path, output, "--outer-steps", "100000"))
    assert "labels" in said
    assert "cat, tabby" in said
    assert not list(tmp_path.glob("pets*"))


def test_a_bundle_of_other_data_is_not_evaluated(bundle: Path, refused: Callable[..., str]) -> None:
    said = refused("evaluate", str(bundle), "--dataset", "digits")
    assert "digits has other classes or another image size than the data that bars was made from" in said


def test_an_invalid_start_is_refused(bars_folder: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    base = ["distill", "--dataset", str(bars_folder), "--output", str(tmp_path / "x.safetensors")]
    said = refused(*base, *SMALL, "--start", "nowhere.safetensors")
    assert "--start must be principal, noise or the file of a bundle, not 'nowhere.safetensors'" in said
    said = refused(*base, *BUDGET, *SMALL, "--set", "start=bundle")
    assert "name the bundle to start from" in said


def test_a_run_can_continue_any_bundle_of_the_same_shape(
    bundle: Path, bars_folder: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    output = tmp_path / "further.safetensors"
    start = ["distill", "--dataset", str(bars_folder), "--output", str(output), *SMALL, "--start", str(bundle)]
    run(*start, "--outer-steps", "1", "--validate-every", "1")
    further, before = MemoryBundle.load(output), MemoryBundle.load(bundle)
    assert further.manifest.budget == before.manifest.budget
    assert further.manifest.provenance.hyper_parameters["start_sha256"] == before.sha256
    said = refused(*start, "--bases", "3", "--overwrite")
    assert "--bases is 3, but the bundle bars has 4; leave it out" in said
