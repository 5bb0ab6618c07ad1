"""Pictures encoded per second by an encoder of the default method, at 32x32 pixels in colour, on two threads.

    python -m benchmarks.encoder [--threads 2] [--pictures 4000] [--quick]

An untrained encoder (the weights do not affect the speed) is exported, and loaded as by the server; the provider that
it runs on is checked. The decoding of JPEG files of 256x256 pixels, one by one, is measured too. --quick: 500 pictures.
The last line is JSON.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.command import command_parser, print_figures
from recall_server.core.classifier.onnx_export import export_network
from recall_server.core.encoders.onnx_session import CPU
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.io.pictures import decode
from recall_server.core.networks import build_network
from recall_server.core.preprocessing import Standardise
from trainer.methods.specs.queries import PictureQueriesSpec

SHAPE = (3, 32, 32)


def encoder(folder: Path, threads: int) -> QueryEncoder:
    """As `distill --queries images` would export it; RuntimeError where it does not run where it should."""
    described = PictureQueriesSpec()
    network = build_network(described.encoder, SHAPE, described.size)
    parameters = network.initialise(torch.Generator().manual_seed(0))
    standard = Standardise(torch.full((3,), 0.5), torch.full((3,), 0.25))
    data = export_network(network, parameters, standard, SHAPE, output="queries", metadata={})
    (folder / "encoder.onnx").write_bytes(data)
    made = QueryEncoder(folder / "encoder.onnx", hashlib.sha256(data).hexdigest(), device="cpu", threads=threads)
    if made.provider != CPU:
        raise RuntimeError(f"the encoder runs on {made.provider}, not on {CPU}")
    return made


def rate(seconds: float, count: int) -> float:
    return round(count / seconds, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=4000)
    options = parser.parse_args(arguments)
    count = 500 if options.quick else options.pictures
    pixels = np.random.default_rng(0).random((count, *SHAPE), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        made = encoder(Path(folder), options.threads)
    made.encode(pixels[:64])  # the first call allocates
    began = time.perf_counter()
    made.encode(pixels)
    encoding = time.perf_counter() - began
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(stream, "JPEG")
    began = time.perf_counter()
    for _ in range(count // 10):
        decode(stream.getvalue(), SHAPE)
    decoding = time.perf_counter() - began
    figures = {
        "encoded_per_second": rate(encoding, count),
        "decoded_per_second": rate(decoding, count // 10),
        "provider": made.provider,
        "threads": options.threads,
        "pictures": count,
    }
    print_figures(figures)


if __name__ == "__main__":
    main()
