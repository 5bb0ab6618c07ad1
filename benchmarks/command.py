"""What the commands of the benchmarks share: their parser, kept figures, and the last line of JSON."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.io.atomic import write_atomically
from recall_server.core.training.allocator import keep_freed_memory
from recall_server.core.training.device import device_name
from trainer.data.features import Featuriser, cache_folder

CPU = torch.device("cpu")
NARROW = [f"{part}network=convnet:filters=16,depth=2" for part in ("objective.", "retraining.")]


COMMON: dict[str, dict[str, Any]] = {
    "results": {"type": Path, "help": "a JSON file in which figures are kept for other runs"},
    "seed": {"type": int, "default": 0},
    "device": {"default": "auto", "help": "auto, cpu or cuda"},
    "threads": {"type": int, "default": 0, "help": "CPU threads; 0 lets torch choose"},
    "quick": {"action": "store_true", "help": "a small problem, for a look at the benchmark itself"},
}


def command_parser(documentation: str | None, *common: str) -> argparse.ArgumentParser:
    """A parser whose help is the module's documentation as it stands, with these options of `COMMON`."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in common:
        parser.add_argument(f"--{name}", **COMMON[name])
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options. The process then keeps freed memory, and has as many threads as `--threads` says; 0 is torch's."""
    options = parser.parse_args(arguments)
    keep_freed_memory()
    if getattr(options, "threads", 0):
        torch.set_num_threads(options.threads)
    return options


def add_encoder(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the options that `featuriser` reads."""
    parser.add_argument("--encoder", type=Path, required=required)
    parser.add_argument("--size", type=int, default=224, help="side of the pictures that the encoder sees, in pixels")


def featuriser(options: argparse.Namespace) -> Featuriser:
    """The encoder that the options name, with the cache of features."""
    digest = hashlib.sha256(options.encoder.read_bytes()).hexdigest()
    encoder = QueryEncoder(options.encoder, digest, image_shape=(3, options.size, options.size))
    return Featuriser(encoder, cache=cache_folder())


def print_figures(figures: Mapping[str, Any], device: torch.device = CPU) -> None:
    """Print the last line of a benchmark: its figures and the device's name as JSON."""
    print(json.dumps({**figures, "device": device_name(device)}))


class KeptCells:
    """Figures by cell. With a file, they are written after every cell, and cells in the file are not measured again.

    Raises SystemExit if the file has figures of other settings.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self._path, self._settings = path, json.loads(json.dumps(settings))
        self.cells: dict[str, Any] = {}
        if path and path.exists():
            stored = json.loads(path.read_text())
            if stored.get("settings") != self._settings:
                raise SystemExit(f"{path.name} has figures of another run, {stored.get('settings')}; use another file")
            self.cells = stored["cells"]

    def measure(self, key: str, cell: Callable[[], dict[str, Any]]) -> None:
        """Measure and print the cell, if it is missing."""
        if key not in self.cells:
            self.keep(key, cell())
            print(f"{key}: {self.cells[key]}", flush=True)

    def keep(self, key: str, figures: dict[str, Any]) -> None:
        """Add the figures of a cell, and write the file."""
        self.cells[key] = figures
        if self._path:
            document = {"settings": self._settings, "cells": self.cells}
            write_atomically(self._path, json.dumps(document, indent=1, sort_keys=True).encode())
