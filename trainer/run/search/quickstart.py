"""Makes the better of two memories of a data set: of an encoder's features, or of pixels.

Features come first, since they take seconds. Validation pictures decide. Then the test pictures are read once, for the
memory that is kept and for what one could do with all pictures instead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from trainer.data.datasets import ImageDataset, Split
from trainer.data.second_moments import SecondMoments
from trainer.evaluation.evaluate import Accuracies, Runs, evaluate_all, evaluate_labels, evaluate_real, interval_of
from trainer.evaluation.report import print_accuracies, write_picture
from trainer.methods.named import compose
from trainer.run.progress import RunLimits
from trainer.run.search.feature_memory import WrittenMemory, heads_accuracy, make_features
from trainer.run.search.feature_methods import FeatureRequest
from trainer.run.search.instant import budgets, instant, nothing_to_gain
from trainer.run.setup.request import DistillRequest

TEST_PICTURES: Final = 2_000
NETWORKS: Final = 3
NEAR_PERFECT: Final = 0.99  # of features on validation pictures, after which pixels are not searched
FEW: Final = 30  # validation pictures, with which two memories can hardly be told apart

Report = Callable[[str], None]


class Pixels(NamedTuple):
    """Pictures, and the moments of all of them where the data set holds a sample."""

    dataset: ImageDataset
    moments: SecondMoments


@dataclass(frozen=True)
class Quickstart:
    """What to make, and where. `features` and `pixels` read the data for each of the spaces; None leaves it out."""

    features: Callable[[], FeatureRequest] | None
    pixels: Callable[[], Pixels] | None
    images_per_class: float
    output: Path
    picture: Path
    seed: int
    device: torch.device
    overwrite: bool = False


@dataclass(frozen=True)
class SpaceCandidate:
    """A memory of one space, and its accuracy on validation pictures."""

    space: str
    bundle: MemoryBundle
    dataset: ImageDataset
    accuracy: float
    made: WrittenMemory | None = None  # of features

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy on validation pictures."""
        return interval_of(self.accuracy, len(self.dataset.validation))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.space} {100 * self.accuracy:.1f} % (95 % interval {100 * low:.0f} to {100 * high:.0f})"


def quickstart(wish: Quickstart, tell: Report) -> MemoryBundle:
    """Make, draw and measure the memory. `tell` gets a sentence for each step.

    Its accuracy on test pictures is recorded in its manifest. Raises ValueError where both spaces are left out, and the
    errors of `make_features` and `instant`.
    """
    features = None if wish.features is None else _of_features(wish.features(), tell)
    pixels = None if wish.pixels is None else _of_pixels(wish, wish.pixels(), features, tell)
    best = _better(features, pixels, tell)
    if best is pixels:
        best.bundle.save(wish.output)
        write_picture(wish.output, wish.picture)
        tell(f"{wish.picture}: what it remembers")
    results = _measure(best, features, pixels, wish)
    test = min(len(best.dataset.test), TEST_PICTURES)
    name, classes = best.dataset.name, len(best.dataset.classes)
    print_accuracies(f"{name}: {classes}-way accuracy on {test} test pictures", results, pictures=test)
    _, *others = results
    tell(when_it_pays(best.bundle, results, others[-1]))
    network = str(best.bundle.manifest.retraining.network)
    row = next(iter(results.values())).row(
        network=network, protocol="bundle", data=f"{name} test, {classes}-way, {test} pictures"
    )
    return best.bundle.with_accuracy([row]).save(wish.output)


def _of_features(request: FeatureRequest, tell: Report) -> SpaceCandidate:
    made = make_features(request, tell)
    return SpaceCandidate(
        f"features of {request.encoder_name}", made.bundle, request.dataset, made.found.accuracy, made
    )


def _of_pixels(wish: Quickstart, data: Pixels, features: SpaceCandidate | None, tell: Report) -> SpaceCandidate:
    dataset, method = data.dataset, compose("principal")
    choices = budgets(dataset, method, images_per_class=wish.images_per_class)
    shape = "x".join(map(str, dataset.image_shape[1:]))
    tell(
        f"{dataset.name}: {len(dataset.classes)} classes, pixels of {shape} of {len(dataset.train)} pictures to learn "
        f"from, {len(dataset.validation)} to choose by, {len(dataset.test)} to test on"
    )
    request = DistillRequest(
        dataset=dataset,
        method=method,
        budget=choices[0],
        output=wish.output,
        seed=wish.seed,
        device=wish.device,
        limits=RunLimits(0),
        resume=False,
        overwrite=wish.overwrite,
    )
    if features is None:
        bundle = instant(request, choices, moments=data.moments, report=tell)
    else:  # the file at wish.output is the memory of features, which may stay
        with tempfile.TemporaryDirectory() as folder:
            aside = replace(request, output=Path(folder) / wish.output.name)
            enough = _ahead(features, dataset)
            bundle = instant(aside, choices, moments=data.moments, report=tell, enough=enough)
    progress = bundle.manifest.progress
    assert progress is not None, "the last candidate was written after it was measured"
    return SpaceCandidate("pixels", bundle, dataset, progress.validation[-1].accuracy)


def _ahead(features: SpaceCandidate, dataset: ImageDataset) -> Callable[[float], str | None]:
    """Why to search pixels no further: features are nearly perfect, or ahead by more than chance."""

    def enough(accuracy: float) -> str | None:
        percent = f"{100 * features.accuracy:.1f} %"
        if features.accuracy >= max(NEAR_PERFECT, accuracy):
            return f"features have {percent}"
        if features.interval[0] > interval_of(accuracy, len(dataset.validation))[1]:
            return f"features are far ahead with {percent}"
        return nothing_to_gain(accuracy)

    return enough


def _better(features: SpaceCandidate | None, pixels: SpaceCandidate | None, tell: Report) -> SpaceCandidate:
    """The candidate that is right more often on validation pictures; features where both are the same."""
    found = [each for each in (features, pixels) if each is not None]
    if not found:
        raise ValueError("a memory needs a space: features of an encoder, or pixels")
    best = max(found, key=lambda each: each.accuracy)
    count = len(best.dataset.validation)
    if len(found) > 1:
        tell(f"on {count} validation pictures: {', '.join(map(str, found))}; the memory of {best.space} is kept")
    else:
        tell(f"on {count} validation pictures: {best}")
    if count < FEW:
        tell(f"{count} validation pictures are few to choose by; more pictures would make the choice surer")
    return best


def _measure(
    best: SpaceCandidate, features: SpaceCandidate | None, pixels: SpaceCandidate | None, wish: Quickstart
) -> dict[str, Accuracies]:
    """Accuracies on test pictures: first of the memory, last of what all pictures make in the same space."""
    results: dict[str, Accuracies] = {}
    if best is features:
        results["the memory, in features"] = heads_accuracy(best.bundle, _test(best))
    if pixels is not None:
        results |= _in_pixels(pixels, wish, measured=best is pixels)
    if features is not None:
        assert features.made is not None
        probe = features.made.found.probe
        assert probe is not None, "quickstart stores a head"
        name = f"linear probe, {len(features.dataset.train)} pictures"
        results[name] = Accuracies((probe.accuracy(_test(features)),))
    if best is pixels:  # its own comparison comes last
        name = next(each for each in results if each.startswith("pixel network"))
        results[name] = results.pop(name)
    return results


def _in_pixels(pixels: SpaceCandidate, wish: Quickstart, *, measured: bool) -> dict[str, Accuracies]:
    """What networks learn from all pixels; and from the memory, and as many real pictures, if it is `measured`."""
    bundle, train, test, device = pixels.bundle, pixels.dataset.train, _test(pixels), wish.device
    runs, results = Runs(bundle.manifest.retraining, range(NETWORKS), device), dict[str, Accuracies]()
    if measured:
        results["the memory, in pixels"] = evaluate_labels(bundle, test, runs)
        results["real pictures, as many numbers"] = evaluate_real(bundle, train, test, runs)
    everything = evaluate_all(bundle, train, test, Runs(bundle.manifest.retraining, [wish.seed], device))
    results[f"pixel network, {everything.pictures} pictures"] = everything.accuracies
    return results


def _test(candidate: SpaceCandidate) -> Split:
    test = candidate.dataset.test
    return test.select(torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:TEST_PICTURES])


def when_it_pays(bundle: MemoryBundle, results: dict[str, Accuracies], everything: str) -> str:
    """How the memory compares with all pictures, `everything` in the results, and when a memory is worth it."""
    own, whole = next(iter(results.values())).mean, results[everything].mean
    return (
        f"the memory has {100 * own:.1f} % in a file of {(bundle.file_bytes or 0) / 1000:.0f} kB; {everything}: "
        f"{100 * whole:.1f} %. A memory pays off if pictures cannot be kept or sent, or if its classes will be "
        "combined with those of other memories; for one classifier of these classes alone, train on all pictures"
    )
