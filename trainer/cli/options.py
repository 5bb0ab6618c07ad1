"""The options of `distill`, `select-bases` and `evaluate`, as annotated types with their help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from recall_server.core.training.augmentation import AUGMENTATIONS
from trainer.methods.named import METHODS


def _use_threads(threads: int) -> int:
    if threads:
        torch.set_num_threads(threads)
    return threads


Threads = Annotated[int, typer.Option(help="CPU threads; 0 lets torch choose.", min=0, callback=_use_threads)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray", help="HOST:PORT of a Ray cluster to compute on, with --threads CPUs for each part.", metavar="ADDRESS"
    ),
]
ImagesPerClass = Annotated[
    float | None, typer.Option(help="The budget: as many numbers as this many images per class; default: 1.")
]
FileBytes = Annotated[
    int | None, typer.Option("--bytes", help="The budget in bytes of the whole file instead.", min=1, metavar="N")
]
Bases = Annotated[
    int | None, typer.Option(help="K, the number of bases; default: 16, or chosen by validation for instant memories.")
]
Rows = Annotated[
    int | None, typer.Option(help="r, the images recalled per label; default: as many as fit the budget.", min=1)
]
Stored = Annotated[
    str | None, typer.Option("--storage", help="The stored type: float32, bfloat16 or int8; default: float32.")
]
Start = Annotated[
    str | None, typer.Option(help="principal, noise, or a bundle to continue; default: the method's own.")
]
METHOD_HELP = f"One of {', '.join(METHODS)}, private, or a file NAME.py."
MethodName = Annotated[str | None, typer.Option("--method", help=METHOD_HELP)]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.field=value of the method; repeatable.")]
Minutes = Annotated[
    float | None, typer.Option(help="Minutes in total, with reading and the last validation.", min=0.01)
]
OuterSteps = Annotated[
    int | None, typer.Option(help="Outer steps; default: the method's, or no limit with --minutes.", min=0)
]
Metrics = Annotated[Path | None, typer.Option(help="Append a JSON line to this file at each step and validation.")]
TensorBoard = Annotated[Path | None, typer.Option(help="Write TensorBoard event files to this folder.")]
Previews = Annotated[
    Path | None, typer.Option(help="Write a sheet of bases and images to this folder at each validation.")
]
DatasetOfRecipe = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="A known name, a folder of class folders, or a folder of npz files; default: the recipe's data set.",
    ),
]
RecipeName = Annotated[
    str | None, typer.Option(help="An experiment of the paper, such as table1/cifar10/1; `recipes` lists them.")
]

# Options of `evaluate`.
Network = Annotated[
    str | None,
    typer.Option(
        help="convnet:filters=64, resnet (the paper's ResNet-12), alexnet or mlp; shrink=2 halves its input; "
        "default: the bundle's own."
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Epochs over all images; default: the protocol's.", min=1)]
Steps = Annotated[int | None, typer.Option(help="Training steps; default: the protocol's.", min=1)]
Augmentation = Annotated[
    str | None, typer.Option(help=f"One of {', '.join(AUGMENTATIONS)}; default: the bundle's own.")
]
Robust = Annotated[
    float | None,
    typer.Option(
        help="Also under attack: pixels, of 0..1, change by this at most; 0.1 for grey, 0.0314 for colour.",
        min=0.0,
        max=1.0,
    ),
]
Record = Annotated[
    bool, typer.Option("--record", help="Write the accuracy into the manifest, and all results into a JSON beside it.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all results to this file as JSON.")]


def parse_numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """`0.5` or `0.5,0.5,0.5`; None stays None. Raises ValueError, naming the option, for anything else."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} must be comma-separated numbers, such as 0.49,0.48,0.45, not {text!r}") from None
