"""The verbs of the command line as functions: what `recall-trainer distill` does, without the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from recall_server.bundle import MemoryBundle
from recall_server.errors import InvalidRequest
from trainer.compose import Budget, fit_preprocessing, make_learner, make_objective, real_data
from trainer.datasets import ImageDataset, load_dataset
from trainer.distill import Distillation
from trainer.instant import budgets, instant, is_instant
from trainer.learners import ImageLearner
from trainer.methods import Method
from trainer.progress import Display
from trainer.request import Publisher, Request, check_nothing_is_lost, check_writable
from trainer.second_moments import SecondMoments
from trainer.validation import validate, validation_task

DEFAULT_BASES = 16
MOST_BYTES = 2**27  # of pictures that are kept of a folder, for an instant memory


def read_start(start: str | None) -> tuple[list[str], MemoryBundle | None]:
    """`--start` -> (overrides of the method, the bundle to go on from). A path is never taken for one of the words."""
    if start is None:
        return [], None
    if start in ("principal", "noise"):
        return [f"start={start}"], None
    if not Path(start).is_file():
        raise ValueError(f"--start must be principal, noise or the file of a bundle, not {start!r}")
    return ["start=bundle"], MemoryBundle.load(start)


def read_data(
    source: str, method: Method, *, image_size: int | None, seed: int
) -> tuple[ImageDataset, SecondMoments | None]:
    """The data set, complaints about it on stderr. For an instant memory a folder of any size is read in one pass."""
    if not is_instant(method):
        dataset, moments = load_dataset(source, image_size=image_size, seed=seed), None
    else:
        moments = SecondMoments()
        dataset = load_dataset(source, image_size=image_size, seed=seed, most_bytes=MOST_BYTES, observe=moments)
    for sentence in dataset.complaints():
        tell(sentence)
    return dataset, moments


def choose_budgets(
    dataset: ImageDataset,
    method: Method,
    start: MemoryBundle | None,
    *,
    images_per_class: float | None,
    bases: int | None,
    rows: int | None,
) -> list[Budget]:
    """The budget of the bundle to go on from, or what is asked for; several where the choice is left to the data."""
    if start is not None:
        return [Budget.of_bundle(start, images_per_class=images_per_class, bases=bases, rows=rows)]
    size = 1 if images_per_class is None else images_per_class
    if is_instant(method) and bases is None and rows is None:
        return budgets(dataset, method, images_per_class=size)
    count = DEFAULT_BASES if bases is None else bases
    return [Budget.fit(dataset, method, images_per_class=size, bases=count, rows=rows)]


def make(request: Request, choices: Sequence[Budget], moments: SecondMoments | None) -> MemoryBundle:
    """An instant memory where the method is one, else a distilled one."""
    if is_instant(request.method):
        return instant(request, choices, moments=moments, report=tell)
    return distill(request)


def tell(sentence: str) -> None:
    """To whoever watches: one line on stderr."""
    Console(stderr=True).print(sentence, highlight=False, markup=False, soft_wrap=True)


def distill(request: Request) -> MemoryBundle:
    """Distill into a bundle that is there at once and gets better; resumes from the checkpoint beside OUTPUT.

    Whatever can be refused is refused before the first step: what the format does not take, a folder that cannot be
    written, a checkpoint or a bundle that would be overwritten. The start is a bundle already; each better version
    takes its place whole. The checkpoint goes once the last one is written.
    """
    check_nothing_is_lost(request)
    generator = torch.Generator().manual_seed(request.seed)
    preprocessing = fit_preprocessing(request.dataset, request.method, request.start)
    learner = make_learner(
        request.dataset,
        request.method,
        request.budget,
        preprocessing,
        generator,
        device=request.device,
        start=request.start,
    )
    run = Distillation(
        learner,
        make_objective(request.dataset, request.method, request.device),
        request.method,
        run=request.describe(),
        limits=request.limits,
        generator=generator,
        checkpoint=request.checkpoint,
    )
    publisher = Publisher(request, learner, preprocessing)
    check_writable(request.output, publisher.draft(learner.tensors(), run.progress))
    if isinstance(learner, ImageLearner):
        validation_task(request.dataset, request.method)
    if request.resume:
        run.resume(request.checkpoint)
    data = real_data(request.dataset, preprocessing, request.device)
    # What stays in its place until there is something better is measured as it is, which may be with a projection.
    served = request.start.preprocessing if request.start is not None and request.in_place else preprocessing

    def measure() -> Sequence[float]:
        space = preprocessing if run.progress.history else served
        return validate(learner, request.dataset, request.method, space).values

    with Display(request.limits, started_at=run.progress) as display:
        run.distill(
            data,
            validate=measure,
            report=display,
            publish=publisher,
            publish_start=not request.in_place,
        )
    request.checkpoint.unlink(missing_ok=True)
    return MemoryBundle.load(request.output)


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one; asking for CUDA where there is none is an error, not a slow surprise."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InvalidRequest(f"unknown device {name!r}; use auto, cpu or cuda", parameter="device")
    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest("no CUDA device is available here; use --device auto or cpu", parameter="device")
    return torch.device(name)
