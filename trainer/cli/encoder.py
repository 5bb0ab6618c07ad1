"""recall-trainer encoder: add a pre-trained encoder to the artifacts, and list the existing ones."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from recall_server.core.bundle.layout import ENCODERS
from recall_server.core.encoders.onnx_session import cpu_session
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.io.atomic import write_atomically
from trainer.cli.options import parse_numbers
from trainer.data.encoders.sources import Choices, EncoderSource, read_source
from trainer.data.encoders.standard_form import standard_form

TOLERANCE = 1e-3  # of features in full precision, relative to the largest of them

encoder = typer.Typer(no_args_is_help=True, help=__doc__)
Numbers = Annotated[str | None, typer.Option(help="One number, or one a channel: 0.485,0.456,0.406.")]


@encoder.command()
def add(
    *,
    source: Annotated[str, typer.Argument(help="efficientnet-lite0, timm:NAME, or the path of an ONNX image tower.")],
    size: Annotated[int | None, typer.Option(help="Pictures are SIZE x SIZE pixels.", min=8, max=1024)] = None,
    mean: Numbers = None,
    deviation: Numbers = None,
    output: Annotated[str | None, typer.Option(help="The model's output that holds the features.")] = None,
    name: Annotated[str | None, typer.Option(help="The encoder's name; default: the source's.")] = None,
    licence: Annotated[str | None, typer.Option(help="The licence of the weights.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Store weights in single precision, not half.")] = False,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Keep the model's own features, not their signed square roots of length one."),
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where encoders are kept.")] = Path("artifacts") / ENCODERS,
) -> None:
    """Bring an image tower into the form that bundles and the server build on, check it, and store it."""
    choices = Choices(
        name, size, parse_numbers("--mean", mean), parse_numbers("--deviation", deviation), licence, output
    )
    found = read_source(source, choices)
    form = partial(standard_form, found.model, found.scaling, found.description, output=output, plain=plain)
    data = form(half=not full)
    check_same_features(found, form(half=False), output, plain=plain)
    path = folder / f"{found.description.name}.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    size = found.description.size
    QueryEncoder(path, hashlib.sha256(data).hexdigest(), image_shape=(3, size, size), device="cpu")
    typer.echo(f"{path}: {found.description.width} features of pictures of {size}x{size}, {len(data):,} bytes")


def check_same_features(source: EncoderSource, data: bytes, output: str | None = None, *, plain: bool = False) -> None:
    """Raise ValueError if the standard form does not compute the model's `output`, up to rounding.

    Features are compared as signed square roots of length one, unless they are `plain`.
    """
    size = source.description.size
    pixels = np.random.default_rng(0).random((2, 3, size, size), dtype=np.float32)
    expected, found = _features(source, pixels, output), _run(data, pixels)
    if not plain:
        roots = np.sign(expected) * np.sqrt(np.abs(expected))
        expected = roots / np.linalg.norm(roots, axis=1, keepdims=True)
    largest = float(np.abs(expected).max())
    if found.shape != expected.shape or not np.abs(found - expected).max() <= TOLERANCE * largest:
        raise ValueError("the encoder in the standard form does not give the features of the model that it was made of")


def _features(source: EncoderSource, pixels: np.ndarray, output: str | None) -> np.ndarray:
    """The features of the original model for pixels that are scaled before it."""
    mean, deviation = (
        np.asarray(values, dtype=np.float32).reshape(1, -1, 1, 1)
        for values in (source.scaling.mean, source.scaling.deviation)
    )
    scaled = (pixels - mean) / deviation
    dimensions = source.model.graph.input[0].type.tensor_type.shape.dim
    if dimensions[1].dim_value != 3:
        scaled = np.ascontiguousarray(scaled.transpose(0, 2, 3, 1))
    return _run(source.model.SerializeToString(), scaled, output)


def _run(model: bytes, pixels: np.ndarray, output: str | None = None) -> np.ndarray:
    session = cpu_session(model)
    values = session.run(None if output is None else [output], {session.get_inputs()[0].name: pixels})
    return np.asarray(values[0]).reshape(len(pixels), -1)
