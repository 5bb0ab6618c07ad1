"""The verbs of the command line as functions: what `recall-trainer distill` does, without the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from rich.console import Console

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.errors import InvalidRequest
from trainer.cli.progress_bar import Display
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.data.second_moments import SecondMoments
from trainer.evaluation.novelty import fit_familiarity
from trainer.methods.budget import MemoryBudget, Size
from trainer.methods.method import Method
from trainer.methods.problem import Problem
from trainer.run.build import fit_preprocessing, real_data
from trainer.run.distill import Distillation
from trainer.run.distributed import ALONE, AbstractProcesses, process_is_first, processes, ranks
from trainer.run.monitor.monitors import Monitors
from trainer.run.progress import RunLimits
from trainer.run.request import DistillRequest, Publisher, check_nothing_is_lost, check_writable
from trainer.run.search.byte_budget import FileSizeLimit
from trainer.run.search.instant import SHARES, budgets, instant, is_instant
from trainer.run.search.trial import served_accuracy
from trainer.run.validation import validation_task

DEFAULT_BASES = 16
NOBODY = Monitors()
MOST_BYTES = 2**26  # of pictures that are kept of a folder, for an instant memory


def read_data(
    source: str, method: Method, *, image_size: int | None, seed: int, start: MemoryBundle | None = None
) -> tuple[ImageDataset, SecondMoments | None]:
    """The data set, complaints about it on stderr. For an instant memory a folder of any size is read in one pass."""
    if start is not None:
        dataset, moments = data_for(start, source, image_size=image_size, seed=seed), None
    elif not is_instant(method):
        dataset, moments = load_dataset(source, image_size=image_size, seed=seed), None
    else:
        moments = SecondMoments()
        dataset = load_dataset(source, image_size=image_size, seed=seed, most_bytes=MOST_BYTES, observe=moments)
    for sentence in dataset.complaints():
        log_line(sentence)
    return dataset, moments


def data_for(bundle: MemoryBundle, source: str, *, image_size: int | None, seed: int = 0) -> ImageDataset:
    """A data set as the bundle has it: classes in its order, a folder's pictures at its size unless one is given."""
    image = bundle.manifest.image
    usual_size = image.height if image.height == image.width else None
    return load_dataset(source, image_size=image_size, usual_size=usual_size, seed=seed).in_order_of(bundle.labels)


def choose_budgets(
    dataset: ImageDataset, method: Method, start: MemoryBundle | None, size: Size, in_bytes: FileSizeLimit | None = None
) -> list[MemoryBudget]:
    """The budget of the bundle to go on from, or what is asked for; several where the choice is left to the data.

    `in_bytes` is a budget for the file instead of images per class.
    """
    if in_bytes is not None and (start is not None or size.images_per_class is not None):
        other = "a bundle to go on from" if start is not None else "--images-per-class"
        raise ValueError(f"--bytes is a budget, and so is {other}; leave one of them out")
    if start is not None:
        return [MemoryBudget.of_bundle(start, size)]
    images_per_class = 1 if size.images_per_class is None else size.images_per_class
    count = DEFAULT_BASES if size.bases is None else size.bases
    free = is_instant(method) and size.bases is None and size.rows is None
    if in_bytes is not None:
        within = in_bytes.budget(dataset, method)
        return within.candidates(SHARES) if free else [within.fit(count, size.rows)]
    if free:
        return budgets(dataset, method, images_per_class=images_per_class)
    return [method.budget(dataset, images_per_class=images_per_class, bases=count, rows=size.rows)]


def make(
    request: DistillRequest, choices: Sequence[MemoryBudget], moments: SecondMoments | None, watch: Monitors = NOBODY
) -> MemoryBundle:
    """An instant memory where the method is one, else a distilled one, which can be watched."""
    if is_instant(request.method):
        if processes() > 1:
            raise ValueError(f"the method {request.method.name} takes no steps to share; run it without torchrun")
        if watch.asked:
            raise ValueError(f"the method {request.method.name} takes no steps to watch; leave {watch.asked[0]} out")
        return instant(request, choices, moments=moments, report=log_line)
    with ranks(request.device) as group:
        made = distill(replace(request, device=group.device), watch, group)
    if request.method.queries.kind == "images" and process_is_first():
        _say_what_is_known(request)
    return made


def _say_what_is_known(request: DistillRequest) -> None:
    """The file that out-of-set scores are made from, where there are pictures enough for it."""
    try:
        fit_familiarity(request.output, request.dataset)
    except ValueError as error:
        log_line(f"classifiers made of pictures will not say how far off these are: {error}")


def log_line(sentence: str) -> None:
    """To whoever watches: one line on stderr."""
    Console(stderr=True).print(sentence, highlight=False, markup=False, soft_wrap=True)


def distill(request: DistillRequest, watch: Monitors = NOBODY, group: AbstractProcesses = ALONE) -> MemoryBundle:
    """Distill into a bundle that is there at once and gets better; resumes from the checkpoint beside OUTPUT.

    Whatever can be refused is refused before the first step: what the format does not take, a folder that cannot be
    written, a checkpoint or a bundle that would be overwritten. The start is a bundle already; each better version
    takes its place whole. The checkpoint goes once the last one is written. Of several ranks the first writes.
    """
    check_nothing_is_lost(request)
    generator = torch.Generator().manual_seed(request.seed)
    preprocessing = fit_preprocessing(request.dataset, request.method, request.begin.bundle)
    problem = Problem(
        request.dataset, preprocessing, generator, request.device, request.begin.bundle, request.begin.encoder
    )
    components = request.method.build(problem, request.budget)
    run = Distillation(
        components,
        request.method,
        run=request.describe(),
        limits=request.limits,
        generator=generator,
        checkpoint=request.checkpoint,
        ranks=group,
    )
    group.share(request.method.outer.draws)
    publisher = Publisher(request, components, preprocessing)
    if group.first:
        check_writable(request.output, publisher.draft(components.tensors(), run.progress))
    if components.queries.shots:
        validation_task(request.dataset, components.queries.shots)
    if request.resume:
        run.resume(request.checkpoint)
    data = real_data(request.dataset, preprocessing, request.device)
    served = _served(request, preprocessing)

    def measure() -> Sequence[float]:
        space = preprocessing if run.progress.history else served
        return served_accuracy(components, request.dataset, request.method, space).values

    begun = not request.in_place
    group.wait()  # what is there already has been read by all
    if group.first:
        with (
            Display(request.limits, started_at=run.progress) as display,
            watch.reporting(display, run.progress, publisher, resume=request.resume) as report,
        ):
            run.distill(data, validate=measure, report=report, publish=publisher, publish_start=begun)
        request.checkpoint.unlink(missing_ok=True)
    else:
        run.distill(data, validate=measure, publish_start=begun)
    group.wait()
    return MemoryBundle.load(request.output)


def _served(request: DistillRequest, preprocessing: AbstractPreprocessing) -> AbstractPreprocessing:
    """What stays in its place until there is something better is measured as it is, which may be with a projection."""
    start = request.begin.bundle
    return start.preprocessing if start is not None and request.in_place else preprocessing


def limits_of(method: Method, *, outer_steps: int | None, minutes: float | None, validate_every: int) -> RunLimits:
    """Without a number of steps the clock alone shapes a run; a method without steps has none to time."""
    by_clock = minutes is not None and outer_steps is None and method.outer.steps > 0
    return RunLimits(None if by_clock else method.outer.steps, minutes, validate_every)


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one; asking for CUDA where there is none is an error, not a slow surprise."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InvalidRequest(f"unknown device {name!r}; use auto, cpu or cuda", parameter="device")
    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest("no CUDA device is available here; use --device auto or cpu", parameter="device")
    return torch.device(name)
