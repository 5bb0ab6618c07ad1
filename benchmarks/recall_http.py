"""The speed of recalls over HTTP, compared with the minimum work that they need.

    python -m benchmarks.recall_http [--quick]

Cached recalls are compared with /health/live on the same server, in turns. Uncached recalls of 10 labels with 16 images
each, as a PNG sheet, are compared with the bare work in this process: matrix product, resize, and encoding a PNG of the
same size. The time from the start of the process until a server of ten bundles is ready is measured too. --quick:
shorter rounds. The last line is JSON.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import itertools
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from benchmarks.command import command_parser
from benchmarks.connections import get, keep_asking
from benchmarks.running_server import ARTIFACTS, RunningServer, running_server
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import AddressedBases
from recall_server.core.reports.contact_sheet import CELL, COMPRESSION

BUNDLE = ARTIFACTS / "bundles" / "fashion-mnist.safetensors"
PER_LABEL = 16
CONNECTIONS = 8
CACHED = {
    "json": "/recall?labels=fashion-mnist:Sneaker,fashion-mnist:Bag&per_label=4",
    "png": "/recall?labels=fashion-mnist:Sneaker,fashion-mnist:Bag&per_label=4&format=png",
}


def bare(bundle: MemoryBundle, labels: int, size: tuple[int, int]) -> bytes:
    """The minimum work for a sheet of these labels: one product, one resize, one PNG of the server's size."""
    memory = bundle.memory
    assert isinstance(memory, AddressedBases)
    _, height, width = memory.image_shape
    with torch.inference_mode():
        coefficients = torch.einsum("qd,rdk->qrk", torch.eye(labels), memory.addressing[:PER_LABEL])
        small = torch.einsum("qrk,kchw->qrchw", coefficients, memory.bases).flatten(0, 1)
        large = interpolate(small, size=(height, width), mode="bilinear", align_corners=False)
        pixels = (bundle.preprocessing.to_pixels(large).clamp(0, 1) * 255).round().byte().numpy()
    rows = pixels[:, 0].reshape(labels, PER_LABEL, height, width)
    sheet = Image.fromarray(np.ascontiguousarray(rows.transpose(0, 2, 1, 3)).reshape(labels * height, -1))
    factor = round(CELL / height)
    stream = io.BytesIO()
    large_sheet = sheet.resize((sheet.width * factor, sheet.height * factor), Image.Resampling.NEAREST)
    framed = Image.new("L", size, "white")
    framed.paste(large_sheet)
    framed.save(stream, "PNG", compress_level=COMPRESSION)
    return stream.getvalue()


def throughputs(server: RunningServer, seconds: float, rounds: int) -> dict[str, float]:
    """Answers per second of /health/live and of each cached recall: the median of rounds that take turns."""
    paths = {"live": "/health/live", **CACHED}
    found: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(rounds):
        for name, path in paths.items():
            request = get(server.host, server.port, path)
            tally = asyncio.run(
                keep_asking(
                    server.host, server.port, itertools.repeat(request), connections=CONNECTIONS, seconds=seconds
                )
            )
            assert set(tally.statuses) == {200}, tally.statuses
            found[name].append(tally.statuses[200] / seconds)
    return {name: statistics.median(values) for name, values in found.items()}


def sheets(server: RunningServer, bundle: MemoryBundle, runs: int) -> tuple[float, float]:
    """Median seconds of an uncached sheet, each with another seed, and of the bare work, measured in turns."""
    labels = bundle.labels[:10]
    names = quote(",".join(f"fashion-mnist:{label}" for label in labels))
    served, in_process = [], []
    client = http.client.HTTPConnection(server.host, server.port)
    for seed in range(runs + 1):
        began = time.perf_counter()
        client.request("GET", f"/recall?labels={names}&per_label={PER_LABEL}&format=png&seed={seed}")
        answer = client.getresponse()
        content = answer.read()
        served.append(time.perf_counter() - began)
        assert answer.status == 200
        size = Image.open(io.BytesIO(content)).size
        began = time.perf_counter()
        bare(bundle, len(labels), size)
        in_process.append(time.perf_counter() - began)
    client.close()
    return statistics.median(served[1:]), statistics.median(in_process[1:])


def seconds_to_ready() -> float:
    """Seconds from the start of the process until a server of ten bundles is ready."""
    bundle = MemoryBundle.load(BUNDLE)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(10):
            manifest = bundle.manifest.model_copy(update={"name": f"memory-{number}"})
            replace(bundle, manifest=manifest, sha256=None).save(Path(folder) / "bundles" / f"{number}.safetensors")
        began = time.perf_counter()
        with running_server("--device=cpu", "--worker-threads=1", artifacts=Path(folder)):
            return time.perf_counter() - began


def main(arguments: list[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    seconds, rounds, runs = (1.0, 3, 10) if options.quick else (4.0, 5, 40)
    bundle = MemoryBundle.load(BUNDLE)
    with running_server("--device=cpu", "--worker-threads=1") as server:
        resident = server.resident_bytes()
        per_second = throughputs(server, seconds, rounds)
        over_http, in_process = sheets(server, bundle, runs)
    ready = [seconds_to_ready() for _ in range(1 if options.quick else 3)]
    figures = {
        "answers_per_second": {name: round(value) for name, value in per_second.items()},
        "cached_share_of_live": {name: round(per_second[name] / per_second["live"], 3) for name in CACHED},
        "uncached_sheet_ms": round(1000 * over_http, 2),
        "bare_sheet_ms": round(1000 * in_process, 2),
        "uncached_over_bare": round(over_http / in_process, 3),
        "seconds_to_ready_with_ten_bundles": round(statistics.median(ready), 2),
        "resident_megabytes": round(resident / 2**20),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
