"""The command line of `recall-trainer grid`."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Annotated, Final

import typer

from recall_server.core.networks import NetworkSpec, build_network
from trainer.cli import commands
from trainer.cli.grid.run import CSV, PLOT, TABLE, Grid
from trainer.cli.grid.runners import LocalProcesses, RayCells
from trainer.cli.options import Device, RayAddress
from trainer.data.datasets import load_dataset
from trainer.evaluation.grid.cell import Cell, GridSettings
from trainer.methods.named import METHODS, named

ALWAYS: Final = ("random", "herding")  # the baselines of every grid
ALL: Final = "all"


def grid(  # noqa: PLR0913  (a command line has as many options as it has)
    *,
    datasets: Annotated[str, typer.Option(help="Known names or folders, separated by commas.")],
    output: Annotated[Path, typer.Option(help="The folder of the grid: its cells, table and plot.")],
    methods: Annotated[
        str, typer.Option(help="Methods or files NAME.py, separated by commas, or all; random and herding are added.")
    ] = ALL,
    images_per_class: Annotated[str, typer.Option(help="Budgets, such as 1,10.")] = "1",
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0,1,2.")] = "0",
    minutes: Annotated[float, typer.Option(help="Minutes of distilling per cell, of processor time.", min=0.01)] = 10,
    networks: Annotated[
        str, typer.Option(help="Networks to measure with, such as convnet,resnet,alexnet,mlp.")
    ] = "convnet",
    runs: Annotated[int, typer.Option(help="Fresh networks per measurement.", min=1)] = 5,
    bases: Annotated[int | None, typer.Option(help="K for memories of bases; default: 16.", min=1)] = None,
    jobs: Annotated[
        int, typer.Option(help="Cells at a time; 0: as many as there are cores, or room on the cluster.", min=0)
    ] = 0,
    image_size: Annotated[int | None, typer.Option(help="Resize pictures of folders to this size.", min=8)] = None,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads per cell.", min=1)] = 1,
    ray: RayAddress = None,
) -> None:
    """Distill with many methods, and compare them in one table: accuracy of fresh networks, sizes, minutes.

    The same command continues a stopped grid and repeats what failed. Further methods, data sets,
    budgets, seeds and networks can be added to a grid. Ctrl-C stops the cells between two steps.
    """
    cells = [
        Cell(method=method, dataset=dataset, images_per_class=size, seed=seed)
        for dataset, size, seed, method in itertools.product(
            _words(datasets), _budgets(images_per_class), _seeds(seeds), _methods(methods)
        )
    ]
    settings = GridSettings(
        minutes=minutes, runs=runs, networks=_networks(networks), bases=bases, image_size=image_size
    )
    cluster = commands.cluster_at(ray, device, threads, at_once=jobs)
    runner = RayCells(cluster) if cluster else LocalProcesses(jobs or os.cpu_count() or 1, device, threads)
    for source in _words(datasets):  # bad data sets are refused once, not in every cell
        data = load_dataset(source, image_size=image_size)
        for network in settings.networks:
            build_network(NetworkSpec.parse(network), data.image_shape, len(data.classes))
    typer.echo(Grid(output, runner, commands.log_line).run(cells, settings).markdown(), nl=False)
    written = [str(output / name) for name in (TABLE, CSV, PLOT) if (output / name).exists()]
    commands.log_line(f"written: {', '.join(written)}")


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(filter(None, (word.strip() for word in text.split(",")))))


def _methods(text: str) -> list[str]:
    """The names, baselines first. Raises ValueError for an unknown method, and for one addressed by pictures."""
    asked = [name for name in METHODS if named(name).queries.kind == "labels"] if text == ALL else _words(text)
    for name in asked:
        if named(name).queries.kind != "labels":
            raise ValueError(f"{name} is addressed by pictures, and a grid measures all classes by their labels")
    return list(dict.fromkeys((*ALWAYS, *asked)))


def _networks(text: str) -> tuple[str, ...]:
    """`convnet:filters=64,depth=2,resnet` -> two networks: a part with `=` is a setting of the network before it.

    Raises ValueError for invalid networks.
    """
    found: list[str] = []
    for part in _words(text):
        if "=" in part and ":" not in part and found:
            found[-1] += f",{part}"
        else:
            found.append(part)
    for each in found:
        NetworkSpec.parse(each)
    return tuple(found)


def _budgets(text: str) -> list[float]:
    return _numbers("--images-per-class", text, float)


def _seeds(text: str) -> list[int]:
    return [int(each) for each in _numbers("--seeds", text, int)]


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> list[float]:
    try:
        found = [kind(word) for word in _words(text)]
    except ValueError:
        found = []
    if not found or (kind is float and min(found) <= 0):
        raise ValueError(f"{option} must be numbers separated by commas, such as 1,10, not {text!r}")
    return list(dict.fromkeys(found))
