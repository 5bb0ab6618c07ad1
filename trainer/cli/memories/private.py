"""`distill --method private` without an encoder: a memory of pixels with differential privacy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import typer

from recall_server.core.bundle.bundle import MemoryBundle
from trainer.cli import commands
from trainer.cli.memories.features import storage_of
from trainer.data.datasets import load_dataset
from trainer.methods.overrides import overridden
from trainer.methods.specs.budget import Size
from trainer.output.places import check_name, check_place
from trainer.run.search.private_pixels import PrivateRequest, PrivateSettings, distill_private
from trainer.starts.private.gaussian_mechanism import noise_scale

CHOOSE_OR_TRAIN: Final = (  # options of `distill`
    "recipe", "file_bytes", "start", "outer_steps", "minutes", "resume", "metrics", "tensorboard", "previews",
)  # fmt: skip


def distill_by_options(options: Mapping[str, Any]) -> MemoryBundle:
    """A private memory of pixels, by the options of `distill`.

    Raises ValueError for options that others have, for a bundle that exists, and for a promise that no noise keeps.
    """
    given = [f"--{name.replace('_', '-')}" for name in CHOOSE_OR_TRAIN if options[name]]
    if given:
        raise ValueError(f"a private memory is made at once; leave out {' and '.join(given)}")
    if options["dataset"] is None:
        raise ValueError("name the pictures to distill, --dataset NAME or --dataset FOLDER")
    settings = overridden(PrivateSettings(), options["override"] or ())
    noise_scale(settings.epsilon, settings.delta)
    output, size = options["output"], Size(options["images_per_class"], options["bases"], options["rows"])
    check_name(output)
    check_place(output, overwrite=options["overwrite"])
    data = load_dataset(options["dataset"], image_size=options["image_size"], seed=options["seed"])
    for sentence in data.complaints():
        commands.log_line(sentence)
    storage = storage_of(options["storage"] or "float32")
    request = PrivateRequest(data, size, output.resolve(), settings, storage, options["seed"])
    return distill_private(request, typer.echo, commands.pick_device(options["device"]))
