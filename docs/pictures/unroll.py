"""Plots accuracy against the length of the unroll: python docs/pictures/unroll.py WORK_FOLDER

Distills scikit-learn's digits from noise with `recall-trainer distill`, once for each length and each kind of inner
training, and plots the validation accuracies in the manifests. Takes about ten minutes on one core. Bundles that exist
in WORK_FOLDER are not made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from recall_server.core.bundle.bundle import MemoryBundle

PICTURE = Path(__file__).with_name("unroll.png")
LENGTHS = (1, 5, 10, 20, 40)
OUTER_STEPS = 200
COMMAND = (
    "-m trainer distill --dataset digits --bases 8 --method window --start noise --threads 1 "
    f"--outer-steps {OUTER_STEPS} --validate-every {OUTER_STEPS} "
    "--set objective.network=convnet:filters=32,depth=2 --set retraining.network=convnet:filters=32,depth=2 "
    "--set retraining.learning_rate=0.05"
).split()


@dataclass(frozen=True)
class Kind:
    """A kind of inner training. Without momentum the same rate goes a tenth as far, so both rates are plotted."""

    name: str
    momentum: float
    rate: float
    style: str

    def distill(self, length: int, folder: Path) -> Path:
        output = folder / f"momentum-{self.momentum:g}-rate-{self.rate:g}-{length}.safetensors"
        if not output.exists():
            settings = [
                f"objective.steps={length}",
                f"objective.window={length}",
                f"objective.optimiser.momentum={self.momentum}",
                f"objective.rate={self.rate}",
            ]
            flags = [flag for setting in settings for flag in ("--set", setting)]
            subprocess.run([sys.executable, *COMMAND, *flags, "--output", str(output)], check=True)
        return output


KINDS = (
    Kind("momentum 0.9, rate 0.05", 0.9, 0.05, "o-"),
    Kind("no momentum, rate 0.5", 0.0, 0.5, "s--"),
    Kind("no momentum, rate 0.05", 0.0, 0.05, "^:"),
)


def validation_accuracy(path: Path) -> float:
    """Return the accuracy on validation pictures after the last outer step, which need not be the best."""
    progress = MemoryBundle.load(path).manifest.progress
    if progress is None or progress.validation[-1].outer_steps != OUTER_STEPS:
        raise ValueError(f"{path.name} is not a finished run of {OUTER_STEPS} outer steps")
    return progress.validation[-1].accuracy


def main() -> None:
    """Distill the missing bundles, then plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("agg")
    figure, axes = plt.subplots(figsize=(6.4, 3.6), dpi=150)
    for kind in KINDS:
        values = [100 * validation_accuracy(kind.distill(length, folder)) for length in LENGTHS]
        axes.plot(LENGTHS, values, kind.style, label=kind.name)
    axes.set(xlabel="inner steps that are differentiated (T)", ylabel="accuracy of fresh networks, %", xscale="log")
    axes.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Software": None})


if __name__ == "__main__":
    main()
