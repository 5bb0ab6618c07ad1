"""Scores an export with DD-Ranking; `benchmarks.exported` runs it in an environment with the package `ddranking`.

    PYTHON exported_scorer.py --images FOLDER --data FOLDER --epochs E --runs N --whole-data PERCENT

The folder of images was written by `recall-trainer export --format ddranking`. The folder of data has train.npz and
test.npz, which replace the package's download, so that both sides use the same pictures. The package has no figure for
the whole data set with this network and would train on it for 200 epochs; it gets the literature's figure instead. The
scores are intercepted where the package would save them, because version 0.2.0 fails there. The last line is JSON.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # type: ignore[import-untyped,unused-ignore]
from ddranking.metrics import hard_label  # type: ignore[import-not-found]
from PIL import Image


class Pictures(torch.utils.data.Dataset[Any]):
    """A data set like torchvision's CIFAR10: transformed pictures with their class numbers."""

    def __init__(self, root: str, train: bool, transform: Any, download: bool = False) -> None:
        with np.load(Path(root) / ("train.npz" if train else "test.npz"), allow_pickle=False) as arrays:
            self.images, self.labels = arrays["images"], arrays["labels"].tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images-per-class", type=int, default=1, help="random real pictures per class")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--whole-data", type=float, default=84.8)
    options = parser.parse_args()
    torchvision.datasets.CIFAR10 = Pictures
    hard_label.REAL_DATA_ACC_CACHE["CIFAR10-ConvNet-3"] = options.whole_data
    saved: dict[str, list[float]] = {}
    hard_label.save_results = lambda results, path: saved.update(results)
    with tempfile.TemporaryDirectory() as folder:
        score = hard_label.LabelRobustScoreHard(
            dataset="CIFAR10",
            real_data_path=str(options.data),
            ipc=options.images_per_class,
            model_name="ConvNet-3",
            data_aug_func=None,
            step_size=options.epochs // 2 + 1,
            num_epochs=options.epochs,
            num_eval=options.runs,
            num_workers=0,
            device="cpu",
            save_path=f"{folder}/scores.csv",
            random_data_path=folder,
        )
        score.test_interval = options.epochs  # test once at the end, instead of the best of every ten epochs
        images, labels, rate = (torch.load(options.images / f"{name}.pt", weights_only=True)  # noqa: TID251
                                for name in ("images", "labels", "lr"))  # fmt: skip
        score.compute_metrics(image_tensor=images, hard_labels=labels, syn_lr=rate)
    synthetic = [options.whole_data - gap for gap in saved["hard_label_recovery"]]
    random = [each - gain for each, gain in zip(synthetic, saved["improvement_over_random"])]  # noqa: B905
    print(json.dumps({"synthetic": synthetic, "random": random, **saved}))


if __name__ == "__main__":
    main()
