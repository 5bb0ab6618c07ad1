"""How long a person with photographs waits: classifiers of names and of large pictures, over HTTP.

    python -m benchmarks.photographs [--megapixels 12] [--runs 5] [--quick]

labels    `POST /classifier` with the ten names of cifar10-features, from the request to the classifier
pictures  the same with five pictures of each of five classes, JPEGs of so many megapixels; the request is made before
encode    the pictures alone through onnxruntime in this process at the encoder's size, already decoded and resized

The pictures are smooth noise in five colours, so that JPEG compresses them as it does photographs. Each line has the
median and the largest of the runs in seconds. --quick: one megapixel, one run. The last line is JSON.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Sequence

import httpx2
import numpy as np
from PIL import Image

from benchmarks.command import command_parser, print_figures
from benchmarks.running_server import ARTIFACTS, PATIENCE, running_server
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.encoders.query_encoder import QueryEncoder

BUNDLE = "cifar10-features"
COLOURS = ("red", "green", "blue", "yellow", "grey")
SHOTS = 5
DETAIL = 8  # a picture is noise of an eighth of its size, enlarged


def photograph(colour: str, megapixels: float, seed: int) -> bytes:
    """A JPEG of so many megapixels, four to three."""
    width, height = (round((1e6 * megapixels * ratio) ** 0.5) for ratio in (4 / 3, 3 / 4))
    noise = np.random.default_rng(seed).integers(0, 256, (height // DETAIL, width // DETAIL, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    Image.blend(picture, Image.new("RGB", picture.size, colour), 0.7).save(stream, format="JPEG", quality=90)
    return stream.getvalue()


def timed(what: str, run: Callable[[int], object], runs: int) -> dict[str, float]:
    """The median and the largest of the seconds of the runs."""
    seconds = []
    for number in range(runs):
        began = time.perf_counter()
        run(number)
        seconds.append(time.perf_counter() - began)
    found = {f"{what}_seconds": round(statistics.median(seconds), 3), f"{what}_largest": round(max(seconds), 3)}
    print(found, flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    if options.quick:
        options.megapixels, options.runs = 1, 1
    bundle = MemoryBundle.load(ARTIFACTS / "bundles" / f"{BUNDLE}.safetensors")
    files = [
        (colour, (f"{seed}.jpg", photograph(colour, options.megapixels, seed), "image/jpeg"))
        for seed in range(SHOTS)
        for colour in COLOURS
    ]
    document: dict[str, object] = {"megapixels": options.megapixels, "bytes": sum(len(file[1][1]) for file in files)}
    with running_server("--device=cpu") as server, httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:

        def labels(seed: int) -> None:
            asked = {"labels": [f"{BUNDLE}:{name}" for name in bundle.labels], "seed": seed}
            answer = client.post("/classifier", json=asked, headers={"Prefer": "wait=60"}).raise_for_status()
            assert answer.json()["status"] == "succeeded", answer.text

        def pictures(seed: int) -> None:
            answer = client.post("/classifier", params={"seed": seed}, files=files, headers={"Prefer": "wait=60"})
            assert answer.raise_for_status().json()["status"] == "succeeded", answer.text

        document |= timed("labels", labels, options.runs) | timed("pictures", pictures, options.runs)
    reference = bundle.manifest.feature_encoder
    assert reference is not None, f"{BUNDLE} is a memory of features"
    path, shape = ARTIFACTS / "encoders" / reference.file, bundle.manifest.image.shape
    encoder = QueryEncoder(path, reference.sha256, image_shape=shape)
    decoded = np.random.default_rng(0).random((len(files), *shape), dtype=np.float32)
    document |= timed("encode", lambda _: encoder.encode(decoded), options.runs)
    print_figures(document)


if __name__ == "__main__":
    main()
