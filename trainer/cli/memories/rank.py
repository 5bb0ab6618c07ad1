"""recall-trainer rank: architecture search on a memory, beside training on all pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from recall_server.core.bundle.bundle import MemoryBundle
from trainer.cli import commands
from trainer.cli.options import Device, JsonFile, Threads
from trainer.evaluation.report import require_same_pictures
from trainer.evaluation.search.ranking import Ranking, Tried, rank_networks
from trainer.evaluation.search.space import check_space, parse_candidate, space_of

NETWORKS_HELP = (
    "A network, such as convnet:filters=16,depth=2 or mlp; repeatable. A convnet may have norm=none, layer, instance "
    "or group, activation=sigmoid, relu or leaky-relu, and pooling=none, max or average. Default: all of --space."
)
SPACE_HELP = "small: 18 ConvNets and MLPs; varied: 108 ConvNets with other norms, activations and poolings."

AGAIN_HELP = "Train on all pictures twice, to see how well that agrees with itself: no memory can do better."


def rank(
    *,
    bundle: Annotated[Path, typer.Argument(help="A bundle of pixels that is addressed by labels.")],
    dataset: Annotated[str, typer.Option(help="The data set that the bundle was made from, as for `evaluate`.")],
    networks: Annotated[list[str] | None, typer.Option(help=NETWORKS_HELP)] = None,
    space: Annotated[str, typer.Option(help=SPACE_HELP)] = "small",
    runs: Annotated[int, typer.Option(help="Networks per architecture, on memory and on random pictures.", min=1)] = 3,
    again: Annotated[bool, typer.Option("--again", help=AGAIN_HELP)] = False,
    json_file: JsonFile = None,
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Rank networks by a memory, and say how well that agrees with training all of them on all pictures.

    Accuracies are on validation pictures. Random real pictures of the memory's size stand beside it.
    """
    loaded = MemoryBundle.load(bundle)
    tried = [parse_candidate(text) for text in networks] if networks else space_of(space, loaded)
    check_space(tried, loaded)
    data = commands.data_for(loaded, dataset, image_size=None)
    require_same_pictures(loaded, data)
    where = commands.pick_device(device)
    typer.echo(f"{len(tried)} networks; accuracy on {len(data.validation)} validation pictures, in per cent, by")
    typer.echo("  memory  random     all")
    found = rank_networks(loaded, data, tried, seeds=range(seed, seed + runs), device=where, again=again, report=_say)
    _conclude(found)
    if json_file is not None:
        json_file.write_text(json.dumps(_as_json(found), indent=1) + "\n")


def _say(each: Tried) -> None:
    typer.echo(f"  {100 * each.memory:6.1f}  {100 * each.random:6.1f}  {100 * each.everything:6.1f}  {each.network}")


def _conclude(found: Ranking) -> None:
    best = max(each.everything for each in found.tried)
    typer.echo(
        f"Spearman's correlation with all pictures: memory {found.memory_correlation:.2f}, random real pictures "
        f"{found.random_correlation:.2f}"
    )
    if found.reliability is not None:
        typer.echo(f"of all pictures with themselves, trained again: {found.reliability:.2f}")
    typer.echo(
        f"best by the memory: {found.chosen.network}, {100 * found.chosen.everything:.1f} % when trained on all "
        f"pictures; the best of all has {100 * best:.1f} %"
    )
    seconds = f"memory {found.memory_seconds:.0f}, all pictures {found.all_seconds:.0f}"
    typer.echo(f"seconds of processor time for all networks: {seconds}")


def _as_json(found: Ranking) -> dict[str, object]:
    return {
        "networks": [{**each._asdict(), "network": str(each.network)} for each in found.tried],
        "memory_correlation": found.memory_correlation,
        "random_correlation": found.random_correlation,
        "reliability": found.reliability,
        "memory_seconds": found.memory_seconds,
        "all_seconds": found.all_seconds,
    }
