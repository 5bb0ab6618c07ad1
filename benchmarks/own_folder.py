"""A folder of one's own: how long `recall-trainer quickstart` takes, and how often its memory is right.

    python -m benchmarks.own_folder [--classes airplane,automobile,cat,horse] [--threads 2] [--quick]

There are no labelled photographs here, so the folder is made of CIFAR-10: 200 training pictures of each class, enlarged
to JPEG files of 300 pixels. The command runs in a process of its own, with an empty cache of features. Its seconds are
those of the whole process; `processor_seconds` are what it took of the cores, which other work does not change. The
memory then classifies 100 test pictures of each class, enlarged alike. The baseline is what the command prints of all
training pictures in pixels. --quick takes 20 and 10 pictures of each class.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from benchmarks.command import CPU, command_parser, parse, print_figures
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import BUNDLES, encoder_folder
from recall_server.core.encoders.query_encoder import QueryEncoder
from trainer.data.datasets import ImageDataset, Split, load_dataset
from trainer.data.features import Featuriser
from trainer.data.folders.image_folder import decode_file, survey
from trainer.evaluation.evaluate import Runs, evaluate_labels

SIDE = 300
PIXEL_NETWORK = re.compile(r"pixel network, \d+ pictures[^0-9]+([0-9.]+)")


def write_folder(folder: Path, data: ImageDataset, split: Split, classes: Sequence[str], each: int) -> None:
    """Class folders of the first pictures of each class, enlarged to JPEG files."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        chosen = split.of_class(data.classes.index(name), each).images
        for number, image in enumerate(chosen.permute(0, 2, 3, 1).numpy()):
            picture = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            picture.save(folder / name / f"{number}.jpg", quality=90)


def right(bundle: MemoryBundle, path: Path, folder: Path) -> float:
    """The share of the pictures in a folder that a classifier of the memory names correctly."""
    found, shape = survey(folder), bundle.manifest.image.shape
    images = torch.stack([torch.from_numpy(decode_file(file, shape)) for file in found.files()])
    labels = torch.tensor([bundle.labels.index(found.classes[label]) for label in found.labels])
    if (reference := bundle.manifest.feature_encoder) is not None:
        encoder = QueryEncoder(encoder_folder(path) / reference.file, reference.sha256, image_shape=shape)
        images = Featuriser(encoder)(images)
    schedule = bundle.manifest.retraining
    return evaluate_labels(bundle, Split(images, labels), Runs(schedule, [0], CPU)).mean


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "threads", "quick")
    parser.add_argument("--classes", default="airplane,automobile,cat,horse")
    options = parse(parser, arguments)
    classes, data = options.classes.split(","), load_dataset("cifar10")
    shown, tested = (20, 10) if options.quick else (200, 100)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(folder / "photographs", data, data.train, classes, shown)
        write_folder(folder / "others", data, data.test, classes, tested)
        command = [sys.executable, "-m", "trainer", "quickstart", str(folder / "photographs")]
        command += ["--artifacts", str(folder / "served"), "--threads", str(options.threads)]
        command += ["--picture", str(folder / "memory.png")]
        environment = os.environ | {"RECALL_CACHE": str(folder / "cache")}
        began = time.perf_counter()
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        path = folder / "served" / BUNDLES / "photographs.safetensors"
        bundle = MemoryBundle.load(path)
        accuracy = right(bundle, path, folder / "others")
        pixels = PIXEL_NETWORK.search(said)
    figures = {
        "space": bundle.manifest.space,
        "seconds": round(seconds, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "held_out": round(100 * accuracy, 1),
        "pixel_network": float(pixels[1]) if pixels else None,
    }
    print_figures(figures)


if __name__ == "__main__":
    main()
