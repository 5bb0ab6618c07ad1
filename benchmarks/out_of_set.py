"""Novelty scores: pictures of the memory's own data against pictures of data that its encoder has never seen.

    python -m benchmarks.out_of_set [--pictures 2000] [--quick]

Centres and distances are fitted on training and validation pictures of Fashion-MNIST, for the committed memory that is
addressed by pictures. Then test pictures are scored: those of Fashion-MNIST as known, those of MNIST and CIFAR-10
(grey, at 28x28) as unknown. AUROC is the probability that an unknown picture has the higher score, counting ties as one
half; `usual` is the mean score of known pictures, which is one half if it is calibrated. --quick: 300 pictures each.
The last line is JSON.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.command import command_parser, print_figures
from recall_server.library.folder import LoadedBundle
from recall_server.library.library import Library
from recall_server.recall.training_set import crop_and_resize
from trainer.data.datasets import Split, load_dataset
from trainer.evaluation.query_novelty import fit_novelty_scorer

ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts"
BUNDLE, KNOWN, UNKNOWN = "fashion-mnist-images", "fashion-mnist", ("mnist", "cifar10")
GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as in the server


def auroc(known: Tensor, unknown: Tensor) -> float:
    """The probability that one of `unknown` [m] exceeds one of `known` [n], counting ties as one half."""
    above = torch.searchsorted(known.sort().values, unknown, right=False).double()
    not_below = torch.searchsorted(known.sort().values, unknown, right=True).double()
    return float((above + not_below).mean() / 2 / len(known))


def scores(loaded: LoadedBundle, split: Split, count: int) -> Tensor:
    """The scores of `count` random pictures, converted to grey and to the encoder's size."""
    assert loaded.encoder is not None and loaded.novelty is not None
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]
    pixels = split.select(chosen).pixels()
    if pixels.shape[1] == 3:
        pixels = torch.einsum("nchw,c->nhw", pixels, torch.tensor(GREY)).unsqueeze(1)
    sized = crop_and_resize(pixels, loaded.encoder.image_shape).contiguous()
    return loaded.novelty.score(torch.from_numpy(loaded.encoder.encode(sized.numpy())))


def fitted(folder: Path) -> LoadedBundle:
    """The committed memory with a newly fitted novelty scorer."""
    shutil.copytree(ARTIFACTS, folder, dirs_exist_ok=True)
    fit_novelty_scorer(folder / "bundles" / f"{BUNDLE}.safetensors", load_dataset(KNOWN))
    return Library.load(folder, device="cpu").get(BUNDLE)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--pictures", type=int, default=2000)
    options = parser.parse_args(arguments)
    count = 300 if options.quick else options.pictures
    with tempfile.TemporaryDirectory() as folder:
        loaded = fitted(Path(folder) / "artifacts")
    known = scores(loaded, load_dataset(KNOWN).test, count)
    document: dict[str, float | int | str] = {"usual": round(float(known.mean()), 4), "pictures": count}
    for name in UNKNOWN:
        unknown = scores(loaded, load_dataset(name).test, count)
        document[f"auroc_{name}"] = round(auroc(known, unknown), 4)
        document[f"score_{name}"] = round(float(unknown.mean()), 4)
    print_figures(document)


if __name__ == "__main__":
    main()
