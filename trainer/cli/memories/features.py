"""`distill --encoder` and `quickstart --encoder`: memories in the space of a pre-trained encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import onnx
import torch
import typer

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.encoders.description import DESCRIPTION_KEY, EncoderDescription
from recall_server.core.encoders.query_encoder import QueryEncoder, load_encoder
from recall_server.core.memory import Storage
from trainer.cli import commands
from trainer.data.datasets import load_dataset
from trainer.data.encoders.installed import encoder_file
from trainer.data.features import EncodingProgress, Featuriser, cache_folder
from trainer.evaluation.evaluate import Accuracies
from trainer.evaluation.report import print_accuracies, recorded, require_same_pictures
from trainer.methods.overrides import overridden
from trainer.output.places import check_name, check_place
from trainer.run.search.feature_memory import distill_features, heads_accuracy
from trainer.run.search.feature_methods import FeatureMethod, FeatureRequest, linear_probe
from trainer.starts.features.anchors import Anchors
from trainer.starts.features.linear_head import HeadSettings
from trainer.starts.private.class_statistics import Privacy
from trainer.starts.private.gaussian_mechanism import noise_scale

PIXELS_ONLY: Final = (  # options of `distill`
    "recipe", "file_bytes", "bases", "rows", "start", "outer_steps", "minutes", "resume", "image_size",
)  # fmt: skip
PIXELS_EVALUATED: Final = ("network", "epochs", "steps", "augmentation", "json_file", "image_size", "robust", "ray")
EncoderName = Annotated[
    str | None,
    typer.Option("--encoder", help="Distill features of this encoder, such as efficientnet-lite0, instead of pixels."),
]
AnchorsFile = Annotated[
    Path | None,
    typer.Option(
        "--anchors",
        help="With --encoder: a memory of features whose classes the head learns to tell from its own, so that heads "
        "of several clients of a federation can be compared.",
    ),
]
EncoderSize = Annotated[
    int | None,
    typer.Option(help="The side in pixels of the pictures that the encoder sees; default: its own.", min=8),
]


def find_encoder(name: str, output: Path, *, size: int | None) -> QueryEncoder:
    """The encoder NAME.onnx beside the bundle to write, or an installed one. Raises NoEncoder for none."""
    path = encoder_file(name, encoder_folder(output))
    data = path.read_bytes()
    side = size or _description(data, name).size
    digest, threads = hashlib.sha256(data).hexdigest(), torch.get_num_threads()
    return load_encoder(path, digest, image_shape=(3, side, side), device="auto", threads=threads)


@dataclass(frozen=True)
class Wanted:
    """The encoder, its picture size (None for its usual one), the data set, and the budget."""

    encoder: str
    encoder_size: int | None
    dataset: str
    images_per_class: float


def read_features(
    request: Wanted,
    found: QueryEncoder,
    output: Path,
    *,
    method: str | None = None,
    storage: str | None = None,
    override: Sequence[str] | None = None,
    anchors: Path | None = None,
    seed: int = 0,
) -> FeatureRequest:
    """Encode the data set, or read its features from the cache. Raises InvalidDataset, and ValueError for options."""
    stored, chosen = storage_of(storage or "int8"), _method(method)
    if anchors is not None and chosen != "exact":
        raise ValueError(f"--anchors is for the method exact, whose head learns beside them, and not for {chosen}")
    privacy, head = _settings(chosen, override or ())
    beside = None if anchors is None else Anchors.read(anchors, found)  # refused before pictures are encoded
    featuriser = Featuriser(found, cache=cache_folder(), report=EncodingProgress())
    data = load_dataset(request.dataset, seed=seed, featuriser=featuriser)
    for sentence in data.complaints():
        commands.log_line(sentence)
    return FeatureRequest(
        dataset=data,
        encoder=found,
        encoder_name=request.encoder,
        picture_numbers=featuriser.picture_numbers or found.image_shape[0] * found.image_shape[1] ** 2,
        images_per_class=request.images_per_class,
        output=output.resolve(),
        method=chosen,
        storage=stored,
        seed=seed,
        privacy=privacy,
        head=head,
        anchors=beside,
    )


def check_anchors(anchors: Path | None, encoder: str | None) -> None:
    """Raise ValueError for anchors of a memory of pixels."""
    if anchors is not None and encoder is None:
        raise ValueError("--anchors is for memories of features; name an --encoder, or leave it out")


def distill_by_options(options: Mapping[str, Any]) -> MemoryBundle:
    """A memory of features, by the options of `distill`.

    Raises ValueError for options that only pixels have, for a bundle that exists, and like `FeatureRequest`.
    """
    given = [f"--{name.replace('_', '-')}" for name in PIXELS_ONLY if options[name]]
    if given:
        raise ValueError(f"{' and '.join(given)} are for memories of pixels; leave out --encoder, or them")
    if options["dataset"] is None:
        raise ValueError("name the pictures to distill, --dataset NAME or --dataset FOLDER")
    output, name, size = options["output"], options["encoder"], options["encoder_size"]
    check_name(output)
    check_place(output, overwrite=options["overwrite"])
    request = Wanted(name, size, options["dataset"], options["images_per_class"] or 1.0)
    found = find_encoder(name, output, size=size)
    chosen = {key: options[key] for key in ("method", "storage", "override", "anchors", "seed")}
    return distill_features(read_features(request, found, output, **chosen), typer.echo)


def evaluate_by_options(options: Mapping[str, Any]) -> None:
    """The accuracy of a memory of features beside a linear probe on all features, by the options of `evaluate`.

    Raises ValueError for options that only pixels have, and InvalidDataset for other pictures than the memory's.
    """
    given = [f"--{name.replace('_', '-')}" for name in PIXELS_EVALUATED if options[name]]
    if given or options["protocol"] not in (None, "bundle"):
        raise ValueError(f"{' and '.join(given) or '--protocol'} is for memories of pixels; leave it out")
    path, bundle = options["bundle"], MemoryBundle.load(options["bundle"])
    reference = bundle.manifest.feature_encoder
    assert reference is not None, "a memory of features has one"
    file, shape = encoder_folder(path) / reference.file, bundle.manifest.image.shape
    found = load_encoder(file, reference.sha256, image_shape=shape, threads=torch.get_num_threads())
    featuriser = Featuriser(found, cache=cache_folder(), report=EncodingProgress())
    data = load_dataset(options["dataset"], seed=options["seed"], featuriser=featuriser).in_order_of(bundle.labels)
    require_same_pictures(bundle, data)
    own, probe = heads_accuracy(bundle, data.test), linear_probe(data).accuracy(data.test)
    task = f"{data.name} test, {len(data.classes)}-way, {len(data.test)} pictures"
    results = {"the memory": own, f"linear probe, {len(data.train)} pictures": Accuracies((probe,))}
    print_accuracies(f"{path.stem} on {task}", results, pictures=len(data.test))
    if options["record"]:
        row = own.row(network="linear", protocol="bundle", data=task)
        bundle.with_accuracy(recorded(bundle.manifest.accuracy, row)).save(path)


def _method(name: str | None) -> FeatureMethod:
    method: FeatureMethod | None = next((each for each in get_args(FeatureMethod) if each == (name or "exact")), None)
    if method is None:
        known = ", ".join(get_args(FeatureMethod))
        raise ValueError(f"the methods for an encoder's features are {known}; {name} is none of them")
    return method


def _settings(method: FeatureMethod, overrides: Sequence[str]) -> tuple[Privacy, HeadSettings]:
    """What --set changes of a method, beside the defaults of the other. ValueError for fields that it does not have."""
    if method == "private":
        privacy = overridden(Privacy(), overrides)
        noise_scale(privacy.epsilon, privacy.delta)
        return privacy, HeadSettings()
    if overrides and method != "exact":
        raise ValueError(
            f"the method {method} has no fields to --set; those of private are epsilon, delta and clip, and those of "
            "exact ridge and balance"
        )
    return Privacy(), overridden(HeadSettings(), overrides)


def storage_of(name: str) -> Storage:
    """How numbers are stored. Raises ValueError for an unknown name."""
    stored: Storage | None = next((each for each in get_args(Storage) if each == name), None)
    if stored is None:
        raise ValueError(f"numbers are stored as {', '.join(get_args(Storage))}, not as {name}")
    return stored


def _description(data: bytes, name: str) -> EncoderDescription:
    properties = {entry.key: entry.value for entry in onnx.load_model_from_string(data).metadata_props}
    if DESCRIPTION_KEY not in properties:
        raise ValueError(f"the encoder {name} does not say which size of pictures it takes; say --encoder-size")
    return EncoderDescription.model_validate(json.loads(properties[DESCRIPTION_KEY]))
