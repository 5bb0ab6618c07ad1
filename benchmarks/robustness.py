"""A memory that was distilled with an attack in its outer loss beside an ordinary one, and beside real pictures.

    python -m benchmarks.robustness [--dataset fashion-mnist] [--epsilon 0.1] [--minutes 3] [--folder FOLDER] [--quick]

Both memories have the numbers of one image per class, the method `window`, the same networks, and the same minutes of
processor time for distilling. The attack of the outer loss is PGD with `--attack-steps` steps. Then fresh networks are
trained with the schedule of the bundles on what each memory recalls, and on random real pictures of the same number of
floats. `clean` is their accuracy on the first `--pictures` test pictures, and `attacked` that under PGD with 20 steps,
where a picture that is wrong without an attack counts as wrong. `by_epsilon`, `more_steps` and `restarts` are further
attacks on the first network of the robust memory: they show whether gradients are masked. Memories that FOLDER has are
not distilled again; with `--only NAME` one memory is distilled and nothing is measured. The last line is JSON.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import CPU, NARROW, command_parser, parse, print_figures
from recall_server.core.bundle.bundle import MemoryBundle
from trainer.cli import commands
from trainer.cli.grid.cell_process import NEVER, clock_of
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.data.splits import Split
from trainer.evaluation.evaluate import Accuracies, Runs, evaluate_labels, evaluate_real
from trainer.evaluation.robustness import under
from trainer.methods.method import Method
from trainer.methods.named import compose
from trainer.objectives.attacks import ProjectedGradient
from trainer.run.progress import RunLimits
from trainer.run.setup.request import DistillRequest

NETWORK = "convnet:filters=32,depth=3"  # so narrow that minutes of one core suffice
STEPS = 20  # of the attack that is measured
VALIDATIONS = 4  # of a distillation, spread over its minutes
QUICK = {"dataset": "digits", "minutes": 0.03, "runs": 1, "pictures": 100}


def method(name: str, options: Any) -> Method:
    """The method of one of the memories."""
    networks = NARROW if options.quick else [f"{part}.network={NETWORK}" for part in ("objective", "retraining")]
    attack = {"kind": "pgd", "epsilon": options.epsilon, "steps": options.attack_steps} if name == "robust" else {}
    return compose("window", [*networks, *(f"objective.attack.{field}={value}" for field, value in attack.items())])


def distill(name: str, dataset: ImageDataset, folder: Path, options: Any) -> None:
    """Write the memory as folder/NAME.safetensors, if it is not there."""
    output, composed = folder / f"{name}.safetensors", method(name, options)
    checkpoint = output.with_suffix(".checkpoint")
    if output.exists() and not checkpoint.exists():
        return
    seconds = 60 * options.minutes / VALIDATIONS
    limits = RunLimits(None, options.minutes, NEVER, validate_seconds=seconds, clock=clock_of(CPU))
    budget = composed.budget(dataset, images_per_class=1, bases=options.bases)
    request = DistillRequest(
        dataset, composed, budget, output, options.seed, CPU, limits, resume=checkpoint.exists(), overwrite=True
    )
    commands.distill(request)


def figures(found: Accuracies) -> dict[str, Any]:
    return {"mean": round(100 * found.mean, 2), "spread": round(100 * found.spread, 2), "runs": len(found.values)}


def measure(folder: Path, dataset: ImageDataset, test: Split, options: Any) -> dict[str, Any]:
    """Clean accuracy and that under the attack, of networks trained on each memory and on real pictures."""
    attack = ProjectedGradient(options.epsilon, STEPS)
    found: dict[str, Any] = {}
    for name in ("ordinary", "robust"):
        bundle = MemoryBundle.load(folder / f"{name}.safetensors")
        clean = Runs(bundle.manifest.retraining, range(options.runs), CPU)
        attacked = replace(clean, predictions=under(attack))
        found[name] = {
            "clean": figures(evaluate_labels(bundle, test, clean)),
            "attacked": figures(evaluate_labels(bundle, test, attacked)),
            "numbers": bundle.manifest.budget.numbers_stored,
            "outer_steps": bundle.manifest.provenance.outer_steps,
            "minutes": round(bundle.manifest.provenance.seconds / 60, 2),
        }
        print(f"{name}: {found[name]}", flush=True)
    found["random_real"] = {
        "clean": figures(evaluate_real(bundle, dataset.train, test, clean)),
        "attacked": figures(evaluate_real(bundle, dataset.train, test, attacked)),
    }
    return found | masking(bundle, test, options)


def masking(bundle: MemoryBundle, test: Split, options: Any) -> dict[str, Any]:
    """The accuracy of one network under stronger attacks, which masked gradients would not lower."""

    def attacked(epsilon: float, steps: int, restarts: int = 1) -> float:
        predictions = under(ProjectedGradient(epsilon, steps), restarts=restarts)
        found = evaluate_labels(bundle, test, Runs(bundle.manifest.retraining, [0], CPU, predictions=predictions))
        return round(100 * found.mean, 2)

    larger = (0.5, 1, 2, 4)
    return {
        "by_epsilon": {f"{options.epsilon * times:.4g}": attacked(options.epsilon * times, STEPS) for times in larger},
        "more_steps": attacked(options.epsilon, 5 * STEPS),
        "restarts": attacked(options.epsilon, STEPS, restarts=5),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "seed", "threads", "quick")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--epsilon", type=float, default=0.1, help="the largest change of a pixel, which has 0..1")
    parser.add_argument("--attack-steps", type=int, default=3, help="of PGD in the outer loss")
    parser.add_argument("--minutes", type=float, default=3, help="of processor time for each memory")
    parser.add_argument("--bases", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=1000, help="test pictures that are attacked")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the memories are kept")
    parser.add_argument("--only", choices=("ordinary", "robust"))
    options = parse(parser, arguments)
    if options.quick:
        vars(options).update(QUICK)
    dataset = load_dataset(options.dataset)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("ordinary", "robust") if options.only is None else (options.only,):
            distill(name, dataset, folder, options)
        if options.only is None:
            test = dataset.test.select(torch.arange(min(options.pictures, len(dataset.test))))
            found = measure(folder, dataset, test, options)
            print_figures(found | {"dataset": options.dataset, "epsilon": options.epsilon, "pictures": len(test)})


if __name__ == "__main__":
    main()
