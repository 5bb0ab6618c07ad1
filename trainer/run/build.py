"""From a data set, a method and a budget to the pieces that a run is made of."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.encoders.weights import encoder_parameters
from recall_server.core.memory import BASES, AbstractMemory, AddressedBases, StoredItems, initial_targets
from recall_server.core.networks import AbstractNetwork, Parameters, build_network
from recall_server.core.preprocessing import ZCA, AbstractPreprocessing, Projected, Spectral, Standardise, unprojected
from recall_server.core.training.augmentation import AUGMENTATIONS
from trainer.data.datasets import ImageDataset
from trainer.data.second_moments import SecondMoments
from trainer.methods.budget import MemoryBudget, query_size, stored_size
from trainer.methods.method import Method
from trainer.objectives.inner.inner_training import AbstractInnerTraining, Adam, Momentum
from trainer.objectives.inner.precision import with_precision
from trainer.objectives.inner.select_step import inner_step
from trainer.objectives.outer_parameters import AbstractLearner, ImageLearner, LabelLearner, RealData
from trainer.objectives.unrolled import Unrolled
from trainer.starts.eigenvectors import principal_start
from trainer.starts.for_pictures import start_by_pictures
from trainer.starts.from_bundle import check_continuable, resume_from_bundle
from trainer.starts.pretrained_encoder import pretrain_encoder
from trainer.starts.random import noise_start


def fit_preprocessing(
    dataset: ImageDataset, method: Method, start: MemoryBundle | None = None, *, moments: SecondMoments | None = None
) -> AbstractPreprocessing:
    """Standardise or whiten by the training pictures; a memory that is gone on from stays in its own model space.

    Onto what pictures are projected the memory decides, later; one that is to change has no projection. `moments` are
    those of all training pictures, where the data set holds a sample. Raises ValueError for a bundle that these
    pictures cannot go on from.
    """
    if start is not None:
        check_continuable(start, dataset.classes, dataset.image_shape, method.preprocessing, method.queries)
        return unprojected(start.preprocessing)
    if method.preprocessing == "zca":
        return ZCA.fit(dataset.train.images, ridge=method.ridge)
    if method.preprocessing == "spectral":
        return Spectral.fit(dataset.train.images, ridge=method.ridge)
    return Standardise.fit(dataset.train.images) if moments is None else moments.standardise()


def with_projection(method: Method, memory: AbstractMemory, fitted: AbstractPreprocessing) -> AbstractPreprocessing:
    """The space in which classifiers see pictures: `fitted`, projected onto the memory where the method asks for it."""
    if method.preprocessing == "projected" and isinstance(fitted, Standardise) and BASES in memory.traits:
        return Projected.onto(memory.span().detach().cpu(), fitted)
    return fitted


def make_learner(
    dataset: ImageDataset,
    method: Method,
    budget: MemoryBudget,
    preprocessing: AbstractPreprocessing,
    generator: torch.Generator,
    *,
    device: torch.device,
    start: MemoryBundle | None = None,
    encoder: bytes | None = None,
) -> AbstractLearner:
    """The memory at its start, and the encoder where pictures address it.

    `start` is a bundle to go on from, `encoder` the ONNX file of it where pictures address it.
    """
    classes = method.classes_per_step or len(dataset.classes)
    if classes > len(dataset.classes):
        raise ValueError(f"{classes} classes per step, but {dataset.name} has {len(dataset.classes)}")
    if method.queries == "images":
        if method.start != "bundle":
            memory, network, parameters = _picture_start(dataset, method, budget, preprocessing, generator, device)
        elif start is None or encoder is None:
            raise ValueError("to go on from a memory that pictures address takes its bundle and its encoder")
        else:
            network = build_network(method.encoder, dataset.image_shape, method.query_size)
            memory, parameters = start.memory, _encoder_of(encoder, network)
        return ImageLearner(
            _on(device, memory),
            network,
            {name: value.to(device) for name, value in parameters.items()},
            classes_per_step=classes,
            shots=method.shots,
            real_batch=method.real_batch,
            begins_networks=method.retraining.initial == "encoder",
        )
    if start is None:
        memory = make_memory(dataset, method, budget, preprocessing, generator)
    else:
        if start.memory.targets.form != "hard" and method.targets == "hard":
            raise ValueError(f"the bundle {start.manifest.name} has soft targets; keep them with --set targets=soft")
        memory = resume_from_bundle(start, dataset.classes, dataset.train, generator)
    return LabelLearner(
        _on(device, _with_targets(memory, method)),
        classes_per_step=classes,
        real_batch=method.real_batch,
        rate=method.rate if method.learn_rate else None,
    )


def _picture_start(  # noqa: PLR0917
    dataset: ImageDataset,
    method: Method,
    budget: MemoryBudget,
    preprocessing: AbstractPreprocessing,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[AbstractMemory, AbstractNetwork, Parameters]:
    """A memory that pictures address and its encoder, with no outer step taken yet; both on the CPU."""
    memory = make_memory(dataset, method, budget, preprocessing, generator)
    encoder = build_network(method.encoder, dataset.image_shape, method.query_size)
    parameters = encoder.initialise(generator)
    if method.encoder_steps:
        parameters = pretrain_encoder(
            encoder,
            parameters,
            dataset.train,
            preprocessing,
            steps=method.encoder_steps,
            augmentation=method.augmentation,
            generator=generator,
            device=device,
        )
    if method.start == "principal" and isinstance(memory, AddressedBases):
        memory, parameters = start_by_pictures(
            memory,
            encoder,
            parameters,
            dataset.train,
            preprocessing,
            shots=method.shots,
            discriminants=bool(method.encoder_steps),
            generator=generator,
        )
    return memory, encoder, parameters


def _encoder_of(model: bytes, network: AbstractNetwork) -> Parameters:
    try:
        return encoder_parameters(model, network)
    except ValueError as error:
        raise ValueError(
            f"{error}; --set encoder=... and --set query_size=... must be those that it was distilled with"
        ) from error


def _on(device: torch.device, memory: AbstractMemory) -> AbstractMemory:
    return memory.replace({name: value.to(device) for name, value in memory.tensors().items()})


def _with_targets(memory: AbstractMemory, method: Method) -> AbstractMemory:
    """The memory with targets of the method's form, at their start where it has none yet."""
    if memory.targets.form == method.targets:
        return memory
    return replace(memory, targets=initial_targets(method.targets, memory.query_size, 1))  # type: ignore[type-var]


def make_memory(
    dataset: ImageDataset,
    method: Method,
    budget: MemoryBudget,
    preprocessing: AbstractPreprocessing,
    generator: torch.Generator,
) -> AbstractMemory:
    """The memory at its start, on the CPU; one that starts from principal is addressed by labels until pictures are."""
    channels, *full_size = dataset.image_shape
    if method.memory == "stored_items":
        shape = len(dataset.classes), budget.rows, channels, *stored_size(dataset, method)
        images = torch.randn(shape, generator=generator)
        return StoredItems(images) if method.resolution == "full" else StoredItems(images, full_size[0], full_size[1])
    random = noise_start(
        dataset.image_shape,
        bases=budget.bases,
        rows=budget.rows,
        query_size=query_size(dataset, method),
        generator=generator,
        initialisation=method.initialisation,
        stored_size=stored_size(dataset, method),
    )  # in any case, so that what is drawn after it is the same for both starts
    if method.start == "noise":
        return random
    return principal_start(
        dataset.train,
        preprocessing,
        classes=dataset.classes,
        bases=budget.bases,
        rows=budget.rows,
        generator=generator,
        coefficients=method.coefficients,
    )


def make_objective(dataset: ImageDataset, method: Method, device: torch.device) -> Unrolled:
    """The unrolled objective; its steps are compiled where that is possible and wanted."""
    classes = method.classes_per_step or len(dataset.classes)
    network: AbstractNetwork = build_network(method.network, dataset.image_shape, classes)
    step = inner_step(with_precision(network, method.precision, device), device, compiled=not method.eager)
    return Unrolled(
        step=step,
        steps=method.steps,
        window=method.window,
        rate=method.rate,
        momentum=method.momentum,
        rows_per_class=method.rows_per_class,
        augmentation=AUGMENTATIONS[method.augmentation],
        other_training=inner_training(method),
    )


def inner_training(method: Method) -> AbstractInnerTraining:
    """How the inner networks are trained."""
    return Adam() if method.inner_optimiser == "adam" else Momentum(method.momentum, method.momentum_gradient)


def real_data(dataset: ImageDataset, preprocessing: AbstractPreprocessing, device: torch.device) -> RealData:
    """The training pictures in model space, resident on the device."""
    images: Tensor = preprocessing.to_model(dataset.train.pixels()).to(device)
    return RealData.of(images, dataset.train.labels.to(device), len(dataset.classes))
