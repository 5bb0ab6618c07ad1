"""Commands about classifiers: train, wait, predict, classifiers, download, cancel, delete."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from recall_client.client.blocking import Classifier
from recall_client.commands import tables
from recall_client.commands.asking import Asking
from recall_client.commands.found import found
from recall_client.commands.memories import InBundle, Labels, Seed, Shots, chosen
from recall_client.commands.names import check_name
from recall_client.local.classifier import LocalClassifier
from recall_client.messages.models import ClassifierState
from recall_client.messages.queries import Labels as SomeLabels
from recall_client.messages.queries import PicturesByName

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name it was given, its id, or the id's beginning.")]
Way = Literal["auto", "images", "classify", "prototypes"]
Timeout = Annotated[float | None, typer.Option(help="Stop waiting after so many seconds; the training goes on.", min=0)]


def train(
    asking: Asking,
    labels: Labels = None,
    *,
    shots: Shots = None,
    name: Annotated[str | None, typer.Option(help="What to call it from now on.")] = None,
    seed: Seed = None,
    bundle: InBundle = None,
    addressing: Annotated[
        Way | None,
        typer.Option(help="How pictures are used; prototypes need no training. Default: the server's choice."),
    ] = None,
    own_pictures: Annotated[
        bool, typer.Option(help="Learn from the pictures too, not only from what they recall.")
    ] = True,
    wait: Annotated[bool, typer.Option(help="Wait until it is trained.")] = True,
    timeout: Timeout = None,
) -> None:
    """Train a fresh classifier.

    Of labels: recall train Sneaker Bag

    Of a few pictures of each class, pets/cat/1.jpg and so on: recall train --shots pets/ --name pets
    """
    kept = None if name is None else check_name(name)
    classes = cast("SomeLabels | PicturesByName", chosen(labels, shots))
    classifier = asking.client.train(
        classes, seed=seed, bundle=bundle, addressing=addressing, own_pictures=own_pictures
    )
    if kept is not None:
        before = asking.names.get(kept)
        asking.names.give(kept, classifier.id)
        if before not in (None, classifier.id):
            asking.note(f"{kept!r} was classifier {before} until now")
    if wait:
        _wait(asking, classifier, kept or classifier.id, timeout)
    asking.tell(tables.outcome(classifier.state, kept), _document(classifier.state, [kept] if kept else []))


def wait(asking: Asking, name: Name, *, timeout: Timeout = None) -> None:
    """Wait until a classifier is trained."""
    classifier = found(asking, name)
    _wait(asking, classifier, name, timeout)
    asking.tell(tables.outcome(classifier.state, None), _document(classifier.state, _names(asking, classifier)))


def predict(
    asking: Asking,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A classifier's name or id; a NAME.onnx asks nobody.")],
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE", help="JPEG, PNG or WebP files.")],
) -> None:
    """Say what is on pictures."""
    local = name.endswith(".onnx") and Path(name).is_file()
    classifier = LocalClassifier.load(name) if local else found(asking, name)
    said = classifier.predict(pictures)
    shown = list(map(str, pictures))
    document = [{"picture": picture} | each.model_dump() for picture, each in zip(shown, said, strict=True)]
    asking.tell(tables.predictions(shown, said), document)


def classifiers(
    asking: Asking, *, limit: Annotated[int | None, typer.Option(help="The newest only.", min=1)] = None
) -> None:
    """List the classifiers of the server, newest first."""
    names = asking.names.by_id()
    states = [each.state for each in asking.client.classifiers(limit=limit)]
    asking.tell(tables.classifiers(states, names), [_document(state, names.get(state.id, [])) for state in states])


def download(
    asking: Asking,
    name: Name,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="FILE.onnx or FILE.safetensors; default: NAME.onnx.")
    ] = None,
) -> None:
    """Take a classifier away."""
    classifier = found(asking, name)
    target = output or Path(f"{name}.onnx".replace("/", "-"))
    classifier.download(target)
    asking.tell(f"{target}", {"id": classifier.id, "output": str(target)})


def cancel(asking: Asking, name: Name) -> None:
    """Stop a training."""
    classifier = found(asking, name).cancel()
    asking.tell(f"{classifier.id}: {classifier.status}", _document(classifier.state, _names(asking, classifier)))


def delete(asking: Asking, names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names or ids.")]) -> None:
    """Delete classifiers and their names."""
    meant = [found(asking, name) for name in names]  # all of them, before the first is gone
    gone = list(dict.fromkeys(classifier.id for classifier in meant))
    for identifier in gone:
        asking.client.classifier(identifier).delete()
        asking.names.forget(identifier)
    asking.tell("\n".join(f"{identifier}: deleted" for identifier in gone), {"deleted": gone})


def _wait(asking: Asking, classifier: Classifier, name: str, timeout: float | None) -> None:
    """With a bar on stderr where somebody looks at it. Ctrl-C stops the waiting only, and says so."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task(classifier.status, total=None)
            classifier.wait(timeout, on_progress=lambda state: _show(bar, task, state))
    except KeyboardInterrupt:
        typed = shlex.quote(name)
        asking.note(f"the training goes on; `recall wait {typed}` waits for it, `recall cancel {typed}` stops it")
        raise


def _show(bar: Progress, task: TaskID, state: ClassifierState) -> None:
    done, total = (state.progress.done, state.progress.total) if state.progress else (0, None)
    loss = f", loss {state.progress.loss:.3g}" if state.progress and state.progress.loss is not None else ""
    bar.update(task, description=f"{state.status}{loss}", completed=done, total=total)


def _document(state: ClassifierState, names: list[str]) -> dict[str, object]:
    return {"names": names} | state.model_dump(mode="json")


def _names(asking: Asking, classifier: Classifier) -> list[str]:
    return asking.names.by_id().get(classifier.id, [])
