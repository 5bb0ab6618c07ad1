"""Options of the command line that say what is distilled, as types: what each means and what it may be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer.methods.named import METHODS

Threads = Annotated[int, typer.Option(help="Processor threads to use; 0 leaves the choice to torch.", min=0)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
ImagesPerClass = Annotated[
    float | None, typer.Option(help="The budget: numbers of that many images per class; default: 1.")
]
FileBytes = Annotated[
    int | None, typer.Option("--bytes", help="The budget instead: bytes of the whole file.", min=1, metavar="N")
]
Bases = Annotated[
    int | None, typer.Option(help="K, the number of bases; default: 16, or chosen on validation data by principal.")
]
Rows = Annotated[int | None, typer.Option(help="r; default: the largest that fits the budget.", min=1)]
Stored = Annotated[
    str | None, typer.Option("--storage", help="How numbers are stored: float32, bfloat16 or int8; default: float32.")
]
Start = Annotated[
    str | None, typer.Option(help="principal, noise, or a bundle to go on from; default: the method's own.")
]
MethodName = Annotated[str | None, typer.Option("--method", help=f"One of {', '.join(METHODS)}, or a file NAME.py.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.field=value of the method; repeatable.")]
OuterSteps = Annotated[int | None, typer.Option(help="Outer steps; default: the method's, without --minutes.", min=0)]
Metrics = Annotated[Path | None, typer.Option(help="Append a JSON line for each outer step and validation.")]
TensorBoard = Annotated[Path | None, typer.Option(help="Write TensorBoard's event files to this folder.")]
Previews = Annotated[Path | None, typer.Option(help="Write a sheet of bases and images here at each validation.")]
DatasetOfRecipe = Annotated[
    str | None,
    typer.Option(
        "--dataset", help="A known name, a folder of class folders, or of npz files; default: the recipe's own."
    ),
]
RecipeName = Annotated[
    str | None, typer.Option(help="An experiment of the paper, such as table1/cifar10/1; `recipes` lists them.")
]

# of `evaluate`
Network = Annotated[
    str | None,
    typer.Option(
        help="convnet:filters=64, resnet (the paper's ResNet-12), alexnet or mlp; shrink=2 looks at half the size; "
        "default: the bundle's own."
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Over all images, instead of the protocol's.", min=1)]
Steps = Annotated[int | None, typer.Option(help="Minibatches, instead of the protocol's.", min=1)]
Augmentation = Annotated[
    str | None, typer.Option(help="none, flip or flip+rotate, instead of what the bundle was distilled with.")
]
Record = Annotated[
    bool, typer.Option("--record", help="Write the accuracy into the bundle's manifest, and all into JSON beside it.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all runs of all that is compared to this file.")]
