"""Time and peak memory of making an instant memory of a folder of PNG files, with all pictures and with half of them.

    python -m benchmarks.instant_folder [--dataset cifar10] [--quick]

The training pictures of a data set are written as files, and `recall-trainer distill --method principal` runs on their
folder in its own process. `seconds` is from the start of that process, imports included, to a usable bundle on the
disk; `peak_megabytes` is the peak memory of the process until its end. Both are also measured for every second picture:
bounded memory does not grow with the number of files. --quick: scikit-learn's digits. The last line is JSON.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command import command_parser, print_figures
from recall_server.core.io.pictures import from_bytes
from trainer.data.datasets import load_dataset
from trainer.data.splits import Split

POLL = 0.02  # seconds


def write_pictures(split: Split, classes: Sequence[str], folder: Path) -> int:
    """Write each picture to FOLDER/class/number.png; returns the bytes of all files."""
    size = 0
    for name in classes:
        (folder / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(split.images, split.labels.tolist(), strict=True)):
        path = folder / classes[label] / f"{number:06}.png"
        from_bytes(np.asarray(image)).save(path)
        size += path.stat().st_size
    return size


def run(folder: Path, output: Path, budget: str) -> dict[str, Any]:
    """Run the command, and watch it from outside."""
    command = [sys.executable, "-m", "trainer", "distill", "--dataset", str(folder), "--output", str(output)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--method", "principal", "--images-per-class", budget, "--device", "cpu"], stderr=subprocess.DEVNULL
    )
    seconds, peak = None, 0
    while process.poll() is None:
        peak = max(peak, peak_kibibytes(process.pid))
        if seconds is None and output.exists():
            seconds = time.perf_counter() - began
        time.sleep(POLL)
    if process.returncode or seconds is None:
        raise SystemExit(f"recall-trainer ended with {process.returncode}")
    return {
        "seconds": round(seconds, 1),
        "chosen_seconds": round(time.perf_counter() - began, 1),
        "peak_megabytes": round(peak / 1024),
    }


def peak_kibibytes(process: int) -> int:
    """The peak memory of a running process so far; 0 if it has ended.

    The system's figure after its end is at least the memory of the parent at the fork, so it is read while it runs.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--images-per-class", default="1")
    options = parser.parse_args(arguments)
    dataset = load_dataset("digits" if options.quick else options.dataset)
    everything = Split(
        torch.cat([dataset.train.images, dataset.validation.images]),
        torch.cat([dataset.train.labels, dataset.validation.labels]),
    )
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, step in (("half", 2), ("all", 1)):
            folder, split = Path(temporary) / name, everything.select(torch.arange(0, len(everything), step))
            size = write_pictures(split, dataset.classes, folder)
            found = run(folder, Path(temporary) / f"{name}.safetensors", options.images_per_class)
            figures[name] = {"pictures": len(split), "megabytes": round(size / 1e6, 1)} | found
            print(f"{name}: {figures[name]}", flush=True)
    print_figures({"dataset": dataset.name, **figures})


if __name__ == "__main__":
    main()
