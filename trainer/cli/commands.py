"""The work of `recall-trainer distill`, as functions that know nothing of the command line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import typer
from rich.console import Console

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.errors import InvalidRequest
from trainer.cli.progress_bar import Display
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.data.second_moments import SecondMoments
from trainer.evaluation.evaluate import interval_of
from trainer.evaluation.query_novelty import fit_novelty_scorer
from trainer.methods.method import Method
from trainer.methods.specs.budget import MemoryBudget, Size
from trainer.methods.specs.problem import Problem
from trainer.run.distill import Distillation
from trainer.run.monitor.monitors import Monitors
from trainer.run.parallel.distributed import ALONE, Processes, process_is_first, processes, ranks
from trainer.run.parallel.ray_tasks import RayTasks
from trainer.run.parallel.tasks import Here, Tasks
from trainer.run.progress import RunLimits, RunState
from trainer.run.publisher import Publisher, check_writable
from trainer.run.search.byte_budget import ByteBudget
from trainer.run.search.instant import SHARES, budgets, instant, is_instant
from trainer.run.search.trial import served_accuracy
from trainer.run.setup.build import fit_preprocessing, real_data
from trainer.run.setup.request import DistillRequest, check_nothing_is_lost
from trainer.run.validation import validation_task

DEFAULT_BASES = 16
NOBODY = Monitors()
WIDE = 0.1  # an interval of accuracies that hides what most runs gain
MOST_BYTES = 2**26  # of a folder's pictures that are kept in memory for an instant memory


def read_data(
    source: str,
    method: Method,
    *,
    image_size: int | None,
    seed: int,
    start: MemoryBundle | None = None,
    usual_size: int | None = None,
    quiet: bool = False,
) -> tuple[ImageDataset, SecondMoments | None]:
    """Load the data set and, unless `quiet`, print warnings about it on stderr.

    For an instant memory, a folder of any size is read in one pass, which also sums the second moments. `usual_size` is
    the size of a folder's pictures where no `image_size` is asked for.
    """
    if start is not None:
        dataset, moments = data_for(start, source, image_size=image_size, seed=seed), None
    elif not is_instant(method):
        dataset, moments = load_dataset(source, image_size=image_size, seed=seed), None
    else:
        moments = SecondMoments()
        dataset = load_dataset(
            source,
            image_size=image_size,
            usual_size=usual_size,
            seed=seed,
            most_bytes=MOST_BYTES,
            observe=moments,
        )
    for sentence in () if quiet else dataset.complaints():
        log_line(sentence)
    return dataset, moments


def data_for(bundle: MemoryBundle, source: str, *, image_size: int | None, seed: int = 0) -> ImageDataset:
    """A data set with the bundle's order of classes and, unless another is given, the bundle's image size."""
    image = bundle.manifest.image
    usual_size = image.height if image.height == image.width else None
    return load_dataset(source, image_size=image_size, usual_size=usual_size, seed=seed).in_order_of(bundle.labels)


def choose_budgets(
    dataset: ImageDataset, method: Method, start: MemoryBundle | None, size: Size, in_bytes: ByteBudget | None = None
) -> list[MemoryBudget]:
    """The budget of the bundle to continue, or the requested one; several candidates if validation is to choose.

    `in_bytes` limits the file's size and replaces the budget of images per class.
    """
    if in_bytes is not None and (start is not None or size.images_per_class is not None):
        other = "a bundle to continue" if start is not None else "--images-per-class"
        raise ValueError(f"--bytes and {other} both set the budget; leave one of them out")
    if start is not None:
        return [MemoryBudget.of_bundle(start, size)]
    images_per_class = 1 if size.images_per_class is None else size.images_per_class
    count = DEFAULT_BASES if size.bases is None else size.bases
    free = is_instant(method) and size.bases is None and size.rows is None
    if in_bytes is not None:
        return in_bytes.candidates(SHARES) if free else [in_bytes.fit(count, size.rows)]
    if free:
        return budgets(dataset, method, images_per_class=images_per_class)
    return [method.budget(dataset, images_per_class=images_per_class, bases=count, rows=size.rows)]


def make(
    request: DistillRequest, choices: Sequence[MemoryBudget], moments: SecondMoments | None, watch: Monitors = NOBODY
) -> MemoryBundle:
    """Make an instant memory if the method is instant, else distill one, reporting to the monitors of `watch`."""
    if is_instant(request.method):
        if processes() > 1:
            raise ValueError(f"the method {request.method.name} has no steps to distribute; run it without torchrun")
        if watch.asked:
            raise ValueError(f"the method {request.method.name} has no steps to monitor; leave {watch.asked[0]} out")
        return instant(request, choices, moments=moments, report=log_line)
    with ranks(request.device) as group:
        made = distill(replace(request, device=group.device), watch, group)
    if request.method.queries.kind == "images" and process_is_first():
        _write_novelty_scorer(request)
    return made


def _write_novelty_scorer(request: DistillRequest) -> None:
    """Write the novelty scorer beside the encoder, if there are enough pictures."""
    try:
        fit_novelty_scorer(request.output, request.dataset)
    except ValueError as error:
        log_line(f"the server will not report how familiar pictures are to this memory: {error}")


def log_line(sentence: str) -> None:
    """Print one line on stderr."""
    Console(stderr=True).print(sentence, highlight=False, markup=False, soft_wrap=True)


def warn_once(handler: logging.Handler | None = logging.lastResort) -> None:
    """Let the handler print no sentence twice: every candidate of a search warns of the same data.

    The default handler prints warnings where logging was not set up.
    """
    printed: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        sentence = record.getMessage()
        known = sentence in printed
        printed.add(sentence)
        return not known

    if handler is not None:
        handler.addFilter(is_new)


def distill(request: DistillRequest, watch: Monitors = NOBODY, group: Processes = ALONE) -> MemoryBundle:
    """Distill a bundle, which is written at once and replaced atomically whenever validation improves.

    Invalid requests are refused before the first step: a manifest that the format does not allow, an unwritable
    folder, a checkpoint or a bundle that would be overwritten. The checkpoint is deleted after the last version is
    written. With several ranks, the first one writes.
    """
    check_nothing_is_lost(request)
    generator = torch.Generator().manual_seed(request.seed)
    preprocessing = fit_preprocessing(request.dataset, request.method, request.begin.bundle)
    problem = Problem(
        request.dataset, preprocessing, generator, request.device, request.begin.bundle, request.begin.encoder
    )
    components = request.method.build(problem, request.budget)
    run = Distillation.of(request, components, generator, group)
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
    group.wait()  # until all ranks have read the existing files
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
    if group.first:
        log_line(gained(run.progress, request))
    return MemoryBundle.load(request.output)


def gained(progress: RunState, request: DistillRequest) -> str:
    """What the run gained on validation pictures, and how much less than that could be chance."""
    count, start, best = len(request.dataset.validation), progress.history[0].accuracy, progress.best
    figures = f"{100 * start:.1f} % on {count} validation pictures at the start, {100 * best:.1f} % at best"
    low, high = interval_of(start, count)
    if high - low > WIDE:
        figures += f"; with so few pictures, that of the start may be anything from {100 * low:.0f} to {100 * high:.0f}"
    if request.in_place and progress.version == 0:
        return f"nothing better was found, and {request.output.name} is unchanged: {figures}"
    return f"{'better' if best > start else 'nothing better'} than the start was found: {figures}"


def _served(request: DistillRequest, preprocessing: AbstractPreprocessing) -> AbstractPreprocessing:
    """The preprocessing of the bundle that is served at first, which may include a projection."""
    start = request.begin.bundle
    return start.preprocessing if start is not None and request.in_place else preprocessing


def limits_of(
    method: Method, outer_steps: int | None, minutes: float | None, validate_every: int, begun: float | None = None
) -> RunLimits:
    """The limits of a run: `minutes` without `outer_steps` means no limit of steps, if the method has any steps.

    `begun`, of time.monotonic(), is when the command began, from where its minutes count.
    """
    by_clock = minutes is not None and outer_steps is None and method.outer.steps > 0
    return RunLimits(None if by_clock else method.outer.steps, minutes, validate_every, begun=begun)


def say_written(output: Path, bundle: MemoryBundle) -> None:
    """Print the bundle's place, size and digest, and whether it is larger than its data. Of ranks, the first prints."""
    if not process_is_first():
        return
    numbers, data = bundle.manifest.budget.numbers_stored, bundle.manifest.budget.dataset_bytes
    typer.echo(f"{output}: {numbers} numbers, {bundle.file_bytes} bytes, sha256 {bundle.sha256}")
    if (bundle.file_bytes or 0) > data:
        log_line(
            f"it is larger than the pictures that it was made from, which have {data} bytes at this size: keep the "
            "pictures, or make it smaller with --images-per-class"
        )


def tasks_at(ray: str | None, device: str, threads: int) -> tuple[Tasks, torch.device]:
    """Where parts of a command's work are computed, and their device: here, or on the Ray cluster at HOST:PORT."""
    cluster = cluster_at(ray, device, threads)
    return (Here(), pick_device(device)) if cluster is None else (cluster, torch.device(cluster.device))


def cluster_at(ray: str | None, device: str, threads: int, at_once: int = 0) -> RayTasks | None:
    """The Ray cluster at HOST:PORT; None without an address, where this machine computes.

    There, "auto" means the CPU. Raises errors for a device or a cluster that cannot be used.
    """
    if ray is None or device != "cuda":
        pick_device(device)
    if ray is None:
        return None
    return RayTasks.connect(ray, cpus=max(1, threads), gpus=int(device == "cuda"), tell=log_line, at_once=at_once)


def pick_device(name: str) -> torch.device:
    """The torch device; "auto" means CUDA if available. Raises InvalidRequest for CUDA where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InvalidRequest(f"unknown device {name!r}; use auto, cpu or cuda", parameter="device")
    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest("no CUDA device is available; use --device auto or cpu", parameter="device")
    return torch.device(name)
