"""The command `recall`, typed as people type it, against the real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from PIL import Image
from rich.console import Console

from recall_client import ClassifierState, Explanation, Influence
from recall_client.commands import run, tables
from recall_client.commands.names import Names, check_name
from recall_client.messages.models import BundleReference, ImageShape
from tests.clients.toy_server import LABELS, toy_pictures
from tests.tolerances import assert_close


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Recall = Callable[..., Ran]


@pytest.fixture
def recall(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Recall:
    """recall("train", "left", "right") is what a shell would run in a folder and a home of this test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("RECALL_SERVER", address)

    def typed(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["recall", *words])
        with pytest.raises(SystemExit) as left:
            run()
        said = capsys.readouterr()
        code = left.value.code
        return Ran(code if isinstance(code, int) else 0 if code is None else 1, said.out, said.err)

    return typed


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """A folder of class folders, with names as people give them."""
    for name, label in (("my left", "left"), ("été", "right")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number, picture in enumerate(toy_pictures(label, 4, seed=6)):
            Image.fromarray(picture).resize((40, 30)).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def test_labels_and_bundles_are_listed(recall: Recall) -> None:
    assert recall("labels").out.split() == ["one", "two", "three", *LABELS]
    assert recall("labels", "--bundle", "columns", "--json").document == list(LABELS)
    assert recall("labels", "--bundle", "nothing").status == 1
    assert recall("labels", "--groups").out.splitlines() == ["links: left", "edges: columns:left, columns:right"]
    assert recall("labels", "--groups", "--bundle", "columns", "--json").document == {"edges": ["left", "right"]}
    table = recall("bundles").out
    assert "by-picture" in table and "columns" in table
    assert [bundle["name"] for bundle in recall("bundles", "--json").document] == ["bases", "by-picture", "columns"]


def test_images_are_saved_as_pngs_or_arrays(recall: Recall, shots: Path) -> None:
    assert recall("images", "left", "right", "-o", "sheet.png").out == "sheet.png\n"
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 8
    assert recall("images", "left", "right", "-o", "rows.npz", "--per-label", "2", "--seed", "3").status == 0
    with numpy.load("rows.npz") as archive:
        assert archive["images"].shape == (4, 1, 8, 8) and archive["labels"].tolist() == ["left", "right"]
    assert recall("images", "--shots", str(shots), "--json").document == {"output": "recalled.png"}
    refused = recall("images", "left", "-o", "sheet.jpg")
    assert (refused.status, refused.err) == (2, "error: --output must end in .png or .npz, not 'sheet.jpg'\n")


def test_a_classifier_of_own_pictures_is_used_by_its_name(recall: Recall, shots: Path, tmp_path: Path) -> None:
    trained = recall("train", "--shots", "pets/", "--name", "my pets", "--json")
    assert trained.document["names"] == ["my pets"] and set(trained.document["labels"]) == {"my left", "été"}
    identifier = trained.document["id"]
    assert identifier in recall("train", "--shots", "pets/", "--name", "again").out  # the same request, the same one
    photo = str(shots / "été" / "0.png")
    for name in ("my pets", identifier, identifier[:8]):
        (said,) = recall("predict", name, photo, "--json").document
        assert said["picture"] == photo and set(said["probabilities"]) == {"my left", "été"}
    shown = recall("predict", "my pets", photo).out
    assert photo in shown and "%" in shown

    refused = recall("explain", "my pets", photo)
    assert refused.status == 1 and "only classifiers of labels whose memories hold features" in refused.err
    assert recall("download", "my pets").out == "my pets.onnx\n"
    (local,) = recall("predict", "my pets.onnx", photo, "--json").document
    there, here = said["probabilities"]["été"], local["probabilities"]["été"]
    assert_close(here, there, terms=9 * 8 * 8, size=1, dtype=torch.float32)
    assert recall("download", "my pets", "-o", "pets.safetensors").status == 0
    assert Path("pets.safetensors").stat().st_size > 1000

    listed = {each["id"]: each["names"] for each in recall("classifiers", "--json").document}
    assert listed[identifier] == ["again", "my pets"]
    assert "my pets" in recall("classifiers", "--limit", "5").out
    assert recall("card", "my pets").out.startswith("# ") and recall("card", "columns").out.startswith("# ")
    assert "succeeded" in recall("wait", "my pets").out

    assert recall("delete", "my pets", "mistyped").status == 1  # and nothing is gone
    renamed = recall("train", "left", "middle", "--name", "again", "--no-wait")
    assert f"'again' was the name of classifier {identifier} until now" in renamed.err
    assert recall("delete", "my pets", identifier).out == f"{identifier}: deleted\n"
    gone = recall("predict", "my pets", photo)
    assert gone.status == 1 and "no classifier is called 'my pets'" in gone.err


def test_a_training_can_be_started_without_waiting_and_cancelled(recall: Recall) -> None:
    started = recall("train", "left", "middle", "--seed", "31", "--name", "later", "--no-wait", "--json")
    assert started.document["status"] in ("queued", "running")
    cancelled = recall("cancel", "later", "--json").document
    assert cancelled["names"] == ["later"] and cancelled["is_terminal"]
    if cancelled["status"] == "cancelled":
        ended = recall("wait", "later")
        assert ended.status == 1 and "was cancelled" in ended.err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("train", "lfet", "right"), 1, "did you mean 'left'?"),
        (("train", "left"), 1, "two or more"),
        (("train",), 2, "give either labels or a folder with --shots"),
        (("images", "left", "--shots", "pets"), 2, "give either labels or a folder with --shots"),
        (("train", "--shots", "nowhere"), 2, "error: nowhere: No such file or directory"),
        (("train", "left", "right", "--name", "0" * 32), 2, "looks like the id"),
        (("train", "left", "right", "--name", " "), 2, "cannot be a name"),
        (("train", "left", "right", "--seed", "-1"), 2, "--seed"),
        (("predict", "nobody", "1.png"), 1, "no classifier is called 'nobody'"),
        (("predict", "0" * 32, "1.png"), 1, "error: "),
        (("predict", "abc", "1.png"), 1, "no classifier is called 'abc'"),
        (("predict", "damaged.onnx", "1.png"), 1, "damaged.onnx is not an ONNX model"),
        (("download", "nobody"), 1, "no classifier"),
        (("delete", "nobody"), 1, "no classifier"),
        (("card", "nobody"), 1, "no classifier"),
        (("labels", "--server", "127.0.0.1:9"), 2, "not the address of a server; write it like http://"),
        (("labels", "--server", "http://127.0.0.1:9"), 3, "is the server running?"),
        (("labels", "--api-key", "two words"), 2, "API key"),
        (("nonsense",), 2, "nonsense"),
        (("images", "left", "-o", "nowhere/sheet.png"), 2, "nowhere, the folder of --output, does not exist"),
        (("predict", "0" * 32, "empty"), 1, "error: "),
        (("download", "0" * 32, "-o", "nowhere/pets.onnx"), 1, "error: "),
    ],
)
def test_errors_end_in_one_sentence_and_an_exit_status(
    recall: Recall, tmp_path: Path, words: tuple[str, ...], status: int, message: str
) -> None:
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    (tmp_path / "empty").mkdir()
    ran = recall(*words)
    assert ran.status == status and message in ran.err and "Traceback" not in ran.err and ran.out == ""
    assert status == 2 or ran.err.count("\n") == 1


def test_an_unreadable_picture_does_not_affect_the_others(recall: Recall, shots: Path) -> None:
    recall("train", "--shots", "pets", "--name", "pets")
    recall("download", "pets")
    folder = shots / "été"
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:60])
    files = [str(path) for path in sorted(folder.iterdir())]
    for name in ("pets", "pets.onnx"):
        ran = recall("predict", name, str(folder), "missing.png", "--json")
        assert ran.status == 1
        said = {each["picture"]: "error" not in each for each in ran.document}
        assert said == {path: Path(path).suffix == ".png" and "cut" not in path for path in files} | {
            "missing.png": False
        }
        shown = recall("predict", name, *files)
        assert shown.status == 1 and shown.out.count("%") >= 4
        assert shown.err.count("error: ") == 2 and "broken.jpg" in shown.err and "cut.png" in shown.err
        alone = recall("predict", name, files[-1])
        assert alone.status in (1, 2) and alone.err.startswith("error: ") and alone.out == ""


def test_files_that_are_not_pictures_are_named(recall: Recall, shots: Path) -> None:
    (shots / "été" / "notes.txt").touch()
    ran = recall("images", "--shots", str(shots))
    assert ran.status == 0 and "été/notes.txt" in ran.err and "left out" in ran.err
    nothing = recall("predict", "damaged", str(shots / "nowhere"))
    assert nothing.status == 1


def test_an_unusable_name_is_refused_before_the_training(
    recall: Recall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(recall("classifiers", "--json").document)
    (tmp_path / "file").touch()
    for folder in (str(tmp_path / "file"), "/proc/nowhere"):
        monkeypatch.setenv("XDG_CONFIG_HOME", folder)
        ran = recall("train", "left", "middle", "--seed", "99", "--name", "pets")
        assert ran.status == 2 and ran.err.count("\n") == 1
    monkeypatch.setattr("typer.get_app_dir", lambda name: "~/.config/recall")
    ran = recall("train", "left", "middle", "--seed", "99", "--name", "pets")
    assert (ran.status, ran.err) == (
        2, "error: names cannot be kept without a home folder; set HOME or XDG_CONFIG_HOME\n",
    )  # fmt: skip
    assert len(recall("classifiers", "--json").document) == before and not (tmp_path / "~").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_fits_the_encoding_of_the_terminal(address: str, tmp_path: Path, shots: Path, encoding: str) -> None:
    environment = os.environ | {"RECALL_SERVER": address, "PYTHONIOENCODING": encoding, "XDG_CONFIG_HOME": "/nowhere"}
    program = [sys.executable, "-m", "recall_client"]
    train = [*program, "train", "--shots", str(shots), "--addressing", "prototypes"]
    ran = subprocess.run([*train, "--json"], env=environment, capture_output=True, check=True)
    assert json.loads(ran.stdout.decode(encoding))["labels"] == ["my left", "été"]
    shown = subprocess.run(train, env=environment, capture_output=True, check=True).stdout.decode(encoding)
    assert ("été" if encoding != "ascii" else "\\xe9t\\xe9") in shown


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&-"])
def test_a_closed_stdout_causes_no_traceback(address: str, closed: str) -> None:
    command = f"{sys.executable} -m recall_client labels --json {closed}"
    ran = subprocess.run(command, shell=True, env=os.environ | {"RECALL_SERVER": address}, capture_output=True)
    assert ran.returncode == 0 and b"Traceback" not in ran.stderr


def test_names_are_stored_per_server(tmp_path: Path) -> None:
    path = tmp_path / "deep/names.sqlite"
    here, there = Names("http://here/", path), Names("http://there", path)
    assert here.get("pets") is None and here.by_id() == {} and not path.exists()
    here.give("pets", "1" * 32)
    here.give("Été; DROP TABLE names", "1" * 32)
    there.give("pets", "2" * 32)
    assert (here.get("pets"), Names("http://here", path).get("pets"), there.get("pets")) == (
        "1" * 32, "1" * 32, "2" * 32,
    )  # fmt: skip
    here.give("Mu\u0308ller", "4" * 32)
    assert here.get("M\u00fcller") == here.get("Mu\u0308ller") == "4" * 32
    here.forget("4" * 32)
    here.give("pets", "3" * 32)
    assert here.by_id() == {"1" * 32: ["Été; DROP TABLE names"], "3" * 32: ["pets"]}
    here.forget("1" * 32)
    assert here.get("Été; DROP TABLE names") is None and there.get("pets") == "2" * 32


def test_a_damaged_file_of_names_is_reported_and_kept(tmp_path: Path) -> None:
    (tmp_path / "names.sqlite").write_bytes(b"not a database, but somebody's notes" * 100)
    with pytest.raises(OSError, match="names.sqlite, the file of names, cannot be used"):
        Names("http://here", tmp_path / "names.sqlite").give("pets", "1" * 32)
    assert (tmp_path / "names.sqlite").read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("name", ["", " ", " pets", "two\nlines", "\x1b[31m", "a" * 32])
def test_an_ambiguous_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a name"):
        check_name(name)


def test_a_broken_pipe_and_a_missing_package_cause_no_traceback(address: str) -> None:
    environment = os.environ | {"RECALL_SERVER": address}
    piped = f"{sys.executable} -m recall_client labels | head -1"
    ran = subprocess.run(piped, shell=True, env=environment, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("one\n", "")
    program = "import sys; sys.modules['typer'] = None\nfrom recall_client.__main__ import main; main()"
    without = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (without.returncode, without.stdout) == (2, "")
    assert without.stderr == "error: the command needs typer and rich: pip install 'recall-client[cli]'\n"


@pytest.mark.parametrize("seconds, said", [(0.004, "less than 0.1 s"), (0.05, "0.1 s"), (12.34, "12.3 s")])
def test_a_training_never_took_no_time(seconds: float, said: str) -> None:
    state = ClassifierState(
        id="1",
        status="succeeded",
        is_terminal=True,
        labels=("left", "right"),
        bundle=BundleReference(name="marks", sha256="0"),
        queries="labels",
        image=ImageShape(channels=1, height=8, width=8),
        network="linear",
        seed=0,
        created_at=datetime.now(UTC),
        seconds=seconds,
    )
    assert f"trained in {said} from marks" in tables.outcome(state, None)


def test_an_explanation_is_a_table_of_both_sides() -> None:
    item = {"bundle": "shoes", "row": 0, "probability_without": 0.5}
    said = Explanation(
        label="Bag",
        predicted="Bag",
        probability=0.9731,
        log_odds=3.6,
        items=2,
        supporting=(Influence(label="Bag", influence=3.25, **item),),
        opposing=(Influence(label="Boot", influence=-0.5, **item),),
    )
    with Console(file=StringIO(), width=120) as console:
        console.print(tables.explanation(said))
    assert isinstance(console.file, StringIO)
    head, _, first, second = (line.split() for line in console.file.getvalue().splitlines() if line.strip())
    assert head[:3] == ["Bag:", "97.3", "%"]
    assert first == ["for", "Bag", "0", "shoes", "+3.25", "50.0", "%"]
    assert second == ["against", "Boot", "0", "shoes", "-0.50", "50.0", "%"]
