"""The JSON file of a bundle's evaluations, with baselines and every run; a manifest has the means only."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recall_server.core.bundle.bundle import MemoryBundle, stored_preprocessing
from recall_server.core.io.atomic import write_atomically
from recall_server.core.training.device import device_name
from recall_server.core.training.retraining import Retraining
from trainer.evaluation.evaluate import Accuracies

FORMAT = 1
KIND = ("network", "protocol", "data")  # a new measurement replaces an earlier one that agrees in these


@dataclass(frozen=True)
class Measured:
    """One evaluation: `results` and `schedules` by what the networks were trained on; one network per seed."""

    network: str
    protocol: str
    data: str
    seeds: Sequence[int]
    device: torch.device
    results: Mapping[str, Accuracies]
    schedules: Mapping[str, Retraining]

    def to_json(self) -> dict[str, Any]:
        """The evaluation's entry in the file."""
        return {
            "network": self.network,
            "protocol": self.protocol,
            "data": self.data,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "device": device_name(self.device),
            "seeds": list(self.seeds),
            "results": [
                {
                    "trained_on": name,
                    "mean": accuracies.mean,
                    "spread": accuracies.spread,
                    "accuracies": list(accuracies.values),
                    "schedule": _schedule(self.schedules.get(name)),
                }
                for name, accuracies in self.results.items()
            ],
        }


def file_of(bundle: Path) -> Path:
    """The path of a bundle's evaluations, beside the bundle."""
    return bundle.with_name(f"{bundle.stem}.evaluation.json")


def add(path: Path, bundle: MemoryBundle, measured: Measured) -> None:
    """Append a measurement to the file, replacing an earlier one of the same kind.

    Measurements of another memory are dropped. Raises ValueError if the file is something else, and StorageFailed.
    """
    digest, new = memory_digest(bundle), measured.to_json()
    earlier = [] if not path.exists() else evaluations(path, digest)
    kept = [each for each in earlier if _kind(each) != _kind(new)]
    document = {
        "format": FORMAT,
        "bundle": bundle.manifest.name,
        "memory_sha256": digest,
        "numbers_stored": bundle.manifest.budget.numbers_stored,
        "images_per_class": bundle.manifest.budget.images_per_class,
        "evaluations": [*kept, new],
    }
    write_atomically(path, f"{json.dumps(document, indent=1)}\n".encode())


def evaluations(path: Path, memory_sha256: str) -> list[dict[str, Any]]:
    """The file's evaluations of the memory with this digest. Raises ValueError if it is no such file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, not {FORMAT}")
        found: list[dict[str, Any]] = document["evaluations"] if document["memory_sha256"] == memory_sha256 else []
        for each in found:
            _kind(each), [(result["trained_on"], float(result["mean"])) for result in each["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a file of evaluations: {error}") from error
    return found


def memory_digest(bundle: MemoryBundle) -> str:
    """sha256 over the stored tensors, without the manifest, in which accuracies are recorded.

    What follows from the stored tensors is left out: its last bits depend on the machine and its threads.
    """
    digest = hashlib.sha256()
    tensors = bundle.memory.tensors() | {
        f"preprocessing.{name}": tensor for name, tensor in stored_preprocessing(bundle.preprocessing).items()
    }
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _kind(evaluation: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(evaluation[key] for key in KIND)


def _schedule(retraining: Retraining | None) -> dict[str, Any] | None:
    return None if retraining is None else retraining.model_dump(mode="json") | {"network": str(retraining.network)}
