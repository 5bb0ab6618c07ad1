"""Shadow memories: what a memory's own method makes of other pictures, with the same budget and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.memory import Storage
from recall_server.core.memory.storage import fake_quantise
from trainer.data.splits import ImageDataset, Split
from trainer.evaluation.audit.shown import Attacked
from trainer.methods.method import Method
from trainer.methods.named import METHODS, compose
from trainer.methods.specs.budget import MemoryBudget, Size
from trainer.methods.specs.problem import Problem
from trainer.run.distill import Distillation
from trainer.run.progress import RunLimits
from trainer.run.search.feature_methods import FeatureMethod, FeatureRequest, find_memory
from trainer.run.search.private_pixels import METHOD, PrivateRequest, PrivateSettings, make_private
from trainer.run.setup.build import fit_preprocessing, real_data
from trainer.starts.features.anchors import SETTING
from trainer.starts.features.linear_head import HeadSettings
from trainer.starts.features.trained_features import Schedule
from trainer.starts.private.class_statistics import Privacy

MakeShadow = Callable[[Split, Split, int], Attacked]  # from training pictures, others, and a seed

OF_THE_RUN = ("memory.bases", "memory.rows", "minutes", "file_bytes", "start_sha256")  # no fields of the method


@dataclass(frozen=True)
class _OfBundle:
    """What all shadow memories have from their bundle: its labels, and how it stores numbers."""

    labels: tuple[str, ...]
    storage: Storage

    def dataset(self, train: Split, others: Split) -> ImageDataset:
        """A data set of these training pictures. The others choose what the method chooses on validation pictures."""
        return ImageDataset("shadow", self.labels, train, others, others.select(torch.arange(0)), "0" * 64, "")


@dataclass(frozen=True)
class PixelShadows(_OfBundle):
    """Makes memories of pixels by a method, a budget, and so many outer steps."""

    method: Method
    budget: MemoryBudget
    steps: int
    device: torch.device

    @classmethod
    def of(cls, bundle: MemoryBundle, *, outer_steps: int | None, device: torch.device) -> PixelShadows:
        """As the bundle was made. Raises ValueError if its method cannot be repeated from its manifest."""
        made = bundle.manifest.provenance
        if made.method not in METHODS:
            raise _not_repeatable(bundle, f"its method {made.method!r} is none of `recall-trainer methods`")
        fields = {name: value for name, value in made.hyper_parameters.items() if name not in OF_THE_RUN}
        if fields.get("start.kind") == "bundle" or "added" in fields:
            raise _not_repeatable(bundle, "it goes on from another memory")
        try:
            method = compose(made.method, [f"{name}={value}" for name, value in fields.items()])
        except ValueError as error:
            raise _other_settings(bundle, error) from error
        method = method.varied(retraining=bundle.manifest.retraining)
        steps = made.outer_steps if outer_steps is None else min(outer_steps, made.outer_steps)
        budget = MemoryBudget.of_bundle(bundle, Size())
        return cls(bundle.labels, bundle.storage, method, budget, steps, device)

    def __call__(self, train: Split, others: Split, seed: int) -> Attacked:
        method, generator = self.method, torch.Generator().manual_seed(seed)
        dataset = self.dataset(train, others)
        fitted = fit_preprocessing(dataset, method)
        components = method.build(Problem(dataset, fitted, generator, self.device), self.budget)
        run = Distillation(components, method, run={}, limits=RunLimits(self.steps), generator=generator)
        tensors = run.distill(real_data(dataset, fitted, self.device))
        memory = fake_quantise(components.memory_of(tensors), self.storage)
        schedule = components.objective.retraining(method.retraining, tensors)
        return Attacked(memory, method.preprocessing.onto(memory, fitted), schedule)


@dataclass(frozen=True)
class FeatureShadows(_OfBundle):
    """Makes memories of features of so many `numbers` by a method."""

    encoder: QueryEncoder
    method: FeatureMethod
    numbers: int
    outer_steps: int = 0
    privacy: Privacy = Privacy()
    head: HeadSettings = HeadSettings()

    @classmethod
    def of(cls, bundle: MemoryBundle, encoder: QueryEncoder) -> FeatureShadows:
        """As the bundle was made. Raises ValueError if its method cannot be repeated from its manifest."""
        made, numbers = bundle.manifest.provenance, bundle.memory.stored_numbers()
        method: FeatureMethod | None = next((each for each in get_args(FeatureMethod) if each == made.method), None)
        if method is None or "added" in made.hyper_parameters:
            raise _not_repeatable(bundle, f"its method {made.method!r} makes no memory from pictures alone")
        if SETTING in made.hyper_parameters:
            raise _not_repeatable(bundle, "its head was trained beside anchors")
        try:
            promise = promise_of(bundle) if method == "private" else Privacy()
            head = HeadSettings.of(made.hyper_parameters)
        except ValueError as error:
            raise _other_settings(bundle, error) from error
        return cls(bundle.labels, bundle.storage, encoder, method, numbers, made.outer_steps, promise, head)

    def __call__(self, train: Split, others: Split, seed: int) -> Attacked:
        request = FeatureRequest(
            dataset=self.dataset(train, others),
            encoder=self.encoder,
            encoder_name="",
            picture_numbers=1,
            images_per_class=(self.numbers + 0.5) / len(self.labels),  # which is rounded down to `numbers`
            output=Path(),
            method=self.method,
            seed=seed,
            schedule=Schedule(outer_steps=self.outer_steps, subsets=0.25),
            privacy=self.privacy,
            head=self.head,
        )
        found = find_memory(request)
        return Attacked(fake_quantise(found.memory, self.storage), found.preprocessing, found.retraining)


@dataclass(frozen=True)
class PrivateShadows(_OfBundle):
    """Makes private memories of pixels of a size and a promise."""

    size: Size
    settings: PrivateSettings

    @classmethod
    def of(cls, bundle: MemoryBundle) -> PrivateShadows:
        """As the bundle was made. Raises ValueError if its manifest promises nothing."""
        budget = MemoryBudget.of_bundle(bundle, Size())
        size = Size(budget.images_per_class, budget.bases, budget.rows)
        try:
            settings = PrivateSettings(**dict(promise_of(bundle)), retraining=bundle.manifest.retraining)
        except ValueError as error:
            raise _other_settings(bundle, error) from error
        return cls(bundle.labels, bundle.storage, size, settings)

    def __call__(self, train: Split, others: Split, seed: int) -> Attacked:
        dataset = self.dataset(train, others)
        found = make_private(PrivateRequest(dataset, self.size, Path(), self.settings, seed=seed)).pictures
        return Attacked(fake_quantise(found.memory, self.storage), found.preprocessing, self.settings.retraining)


def promise_of(bundle: MemoryBundle) -> Privacy:
    """What the manifest of a private memory promises. Raises ValueError where it promises nothing."""
    made, names = bundle.manifest.provenance.hyper_parameters, ("epsilon", "delta", "clip")
    if missing := [name for name in names if name not in made]:
        raise ValueError(f"a private memory states its {' and '.join(missing)}")
    return Privacy.model_validate({name: made[name] for name in names})


def shadows_of_pixels(bundle: MemoryBundle, *, outer_steps: int | None, device: torch.device) -> MakeShadow:
    """The maker of shadow memories of a memory of pixels. Raises ValueError if they cannot be made."""
    if bundle.manifest.provenance.method == METHOD:
        return PrivateShadows.of(bundle)
    return PixelShadows.of(bundle, outer_steps=outer_steps, device=device)


def _other_settings(bundle: MemoryBundle, error: ValueError) -> ValueError:
    return _not_repeatable(bundle, f"its settings are not those of this version: {error}")


def _not_repeatable(bundle: MemoryBundle, why: str) -> ValueError:
    return ValueError(
        f"there can be no shadow memories of {bundle.manifest.name}: {why}; --shadows 0 attacks it without them"
    )
