"""Commands about classifiers: train, wait, predict, classifiers, download, cancel, delete."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from recall_client.client import Classifier
from recall_client.commands import tables
from recall_client.commands.context import Context
from recall_client.commands.lookup import find_classifier
from recall_client.commands.memories import InBundle, LabelArguments, Seed, Shots, chosen_classes
from recall_client.commands.names import check_name
from recall_client.errors import PictureTooLarge, UnreadablePicture
from recall_client.local import NONE_BELOW, LocalClassifier
from recall_client.messages.models import ClassifierState, Prediction
from recall_client.pictures.folders import pictures_in

Name = Annotated[str, typer.Argument(metavar="NAME", help="The classifier's name, its id, or the beginning of its id.")]
AddressingMode = Literal["auto", "pictures", "prototypes", "recalled", "together", "images", "classify"]
Timeout = Annotated[
    float | None, typer.Option(help="Stop waiting after this many seconds; the training continues.", min=0)
]


def train(
    context: Context,
    labels: LabelArguments = None,
    *,
    shots: Shots = None,
    name: Annotated[str | None, typer.Option(help="A name for the classifier.")] = None,
    seed: Seed = None,
    bundle: InBundle = None,
    addressing: Annotated[
        AddressingMode | None,
        typer.Option(help="How pictures are used. By default the server chooses, and says what it chose."),
    ] = None,
    own_pictures: Annotated[
        bool, typer.Option(help="Train on the pictures too, not only on the images that they recall.")
    ] = True,
    wait: Annotated[bool, typer.Option(help="Wait until the classifier is trained.")] = True,
    timeout: Timeout = None,
) -> None:
    """Train a fresh classifier.

    From labels: recall train Sneaker Bag

    From a few pictures of each class, pets/cat/1.jpg and so on: recall train --shots pets/ --name pets

    From both, where the labels are of memories of features: recall train bear deer --shots pets/
    """
    if name is not None:
        check_name(name)
        context.names.prepare()
    beside = labels if shots is not None and labels else []
    classes = chosen_classes(context, None if beside else labels, shots)
    classifier = context.client.train(
        classes, seed=seed, bundle=bundle, labels=beside, addressing=addressing, own_pictures=own_pictures
    )
    if name is not None:
        _give(context, name, classifier)
    if wait:
        _wait(context, classifier, name or classifier.id, timeout)
    context.show(tables.outcome(classifier.state, name), _document(classifier.state, [name] if name else []))


def wait(context: Context, name: Name, *, timeout: Timeout = None) -> None:
    """Wait until a classifier is trained."""
    classifier = find_classifier(context, name)
    _wait(context, classifier, name, timeout)
    context.show(tables.outcome(classifier.state, None), _document(classifier.state, _names(context, classifier)))


def predict(
    context: Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A classifier's name or id, or a FILE.onnx, which needs no server.")
    ],
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE", help="Picture files, or folders of them.")],
    *,
    none_below: Annotated[
        float, typer.Option(help="A picture that is less familiar shows none of the classes.", min=0, max=1)
    ] = NONE_BELOW,
) -> None:
    """Classify pictures, and tell those that show none of the classes."""
    local = name.endswith(".onnx") and Path(name).is_file()
    classifier = LocalClassifier.load(name) if local else find_classifier(context, name)
    files = [file for path in pictures for file in (_in_folder(path) if path.is_dir() else [path])]
    predictions, failures = _predict(classifier, files, none_below)
    shown = [(file, each) for file, each in zip(files, predictions, strict=True) if each is not None]
    document = [
        {"picture": str(file)} | (each.model_dump() if each else {"error": failures[file]})
        for file, each in zip(files, predictions, strict=True)
    ]
    context.show(tables.predictions([str(file) for file, _ in shown], [each for _, each in shown]), document)
    for sentence in failures.values():
        context.note(f"error: {sentence}")
    if failures:
        raise typer.Exit(1)


def explain(
    context: Context,
    name: Name,
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A picture file.")],
    *,
    label: Annotated[str | None, typer.Option(help="The class to explain; by default the most probable one.")] = None,
    top: Annotated[int | None, typer.Option(help="How many items on either side.", min=1)] = None,
) -> None:
    """Show which recalled items spoke for and against a class."""
    said = find_classifier(context, name).explain(picture, label=label, top=top)
    context.show(tables.explanation(said), said.model_dump())


def classifiers(
    context: Context, *, limit: Annotated[int | None, typer.Option(help="Only the newest ones.", min=1)] = None
) -> None:
    """List the classifiers on the server, newest first."""
    names = context.names.by_id()
    states = [each.state for each in context.client.classifiers(limit=limit)]
    context.show(tables.classifiers(states, names), [_document(state, names.get(state.id, [])) for state in states])


def download(
    context: Context,
    name: Name,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="FILE.onnx or FILE.safetensors; by default NAME.onnx.")
    ] = None,
) -> None:
    """Download a classifier."""
    classifier = find_classifier(context, name)
    target = output or Path(f"{name}.onnx".replace("/", "-"))
    classifier.download(target)
    context.show(f"{target}", {"id": classifier.id, "output": str(target)})


def cancel(context: Context, name: Name) -> None:
    """Cancel a training."""
    classifier = find_classifier(context, name).cancel()
    context.show(f"{classifier.id}: {classifier.status}", _document(classifier.state, _names(context, classifier)))


def delete(context: Context, names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names or ids.")]) -> None:
    """Delete classifiers and their names."""
    found = [find_classifier(context, name) for name in names]  # all of them, before the first is deleted
    deleted = list(dict.fromkeys(classifier.id for classifier in found))
    for identifier in deleted:
        context.client.classifier(identifier).delete()
        context.names.forget(identifier)
    context.show("\n".join(f"{identifier}: deleted" for identifier in deleted), {"deleted": deleted})


def _give(context: Context, name: str, classifier: Classifier) -> None:
    before = context.names.get(name)
    try:
        context.names.give(name, classifier.id)
    except OSError as error:
        raise OSError(f"classifier {classifier.id} was started, but not named: {error}") from error
    if before not in (None, classifier.id):
        context.note(f"{name!r} was the name of classifier {before} until now")


def _wait(context: Context, classifier: Classifier, name: str, timeout: float | None) -> None:
    """Wait with a progress bar, if stderr is a terminal. Ctrl-C ends only the waiting, and a note says so."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task(classifier.status, total=None)
            classifier.wait(timeout, on_progress=lambda state: _show(bar, task, state))
    except KeyboardInterrupt:
        typed = shlex.quote(name)
        context.note(f"the training continues; `recall wait {typed}` waits for it, `recall cancel {typed}` cancels it")
        raise


def _show(bar: Progress, task: TaskID, state: ClassifierState) -> None:
    done, total = (state.progress.done, state.progress.total) if state.progress else (0, None)
    loss = f", loss {state.progress.loss:.3g}" if state.progress and state.progress.loss is not None else ""
    bar.update(task, description=f"{state.status}{loss}", completed=done, total=total)


def _in_folder(folder: Path) -> list[Path]:
    if not (found := pictures_in(folder)):
        raise ValueError(f"{folder} holds no pictures")
    return found


def _predict(
    classifier: Classifier | LocalClassifier, files: list[Path], none_below: float
) -> tuple[list[Prediction | None], dict[Path, str]]:
    """Return a prediction or None per file, and a sentence for each file that cannot be read.

    Many files are sent together; those among them that cannot be read are found by halving. Raises the error of a
    single file.
    """
    try:
        return list(classifier.predict(files, none_below=none_below)), {}
    except (UnreadablePicture, PictureTooLarge, ValueError, OSError):
        if len(files) == 1:
            raise
    predictions: list[Prediction | None] = []
    failures: dict[Path, str] = {}
    for half in (files[: len(files) // 2], files[len(files) // 2 :]):
        try:
            some, failed = _predict(classifier, half, none_below)
        except (UnreadablePicture, PictureTooLarge, ValueError, OSError) as error:
            some, failed = [None], {half[0]: str(error)}
        predictions += some
        failures |= failed
    return predictions, failures


def _document(state: ClassifierState, names: list[str]) -> dict[str, object]:
    return {"names": names, **state.model_dump(mode="json")}


def _names(context: Context, classifier: Classifier) -> list[str]:
    return context.names.by_id().get(classifier.id, [])
