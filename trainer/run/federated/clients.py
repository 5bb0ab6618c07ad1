"""The bundles of clients: read as untrusted files, and refused where they cannot become one memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.io.labels import folded
from recall_server.core.memory import DescribedClasses
from recall_server.core.preprocessing import Standardise
from trainer.output.places import SUFFIX
from trainer.run.federated.picture_counts import read_counts
from trainer.starts.features.anchors import SETTING


class Client(NamedTuple):
    """A bundle, its memory and its space. `counts` [C] are of the pictures of each label; None if it does not say."""

    name: str
    bundle: MemoryBundle
    memory: DescribedClasses
    space: Standardise
    counts: Tensor | None

    @property
    def head(self) -> Tensor:
        """The weights [C, D] of its head, which sees features in its space; their sum is zero without anchors."""
        rate = self.bundle.manifest.retraining.learning_rate
        return rate / len(self.bundle.labels) * self.memory.items(torch.eye(len(self.bundle.labels)))[:, 0]

    @property
    def anchors(self) -> str | None:
        """The digest of the memory that its head was trained beside."""
        found = self.bundle.manifest.provenance.hyper_parameters.get(SETTING)
        return None if found is None else str(found)


def read_clients(folder: Path) -> list[Client]:
    """The clients of all bundles in a folder, in the order of their names.

    Raises InvalidBundle for a bundle that a server would not load, and ValueError, with one sentence, for bundles that
    cannot be merged.
    """
    paths = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if len(paths) < 2:
        raise ValueError(f"{folder} must be a folder with the bundles of two clients or more, and has {len(paths)}")
    clients = [read_client(path) for path in paths]
    check_clients(clients)
    return clients


def read_client(path: Path) -> Client:
    """One client. Raises InvalidBundle, and ValueError for a memory that holds no head and descriptions of classes."""
    bundle = MemoryBundle.load(path)
    manifest, memory, space = bundle.manifest, bundle.memory, bundle.preprocessing
    described = manifest.space == "features" and isinstance(memory, DescribedClasses)
    one_step = manifest.retraining.network.architecture == "linear" and manifest.retraining.steps == 1
    if not (described and one_step and isinstance(memory, DescribedClasses) and isinstance(space, Standardise)):
        raise ValueError(
            f"{path.name} is a memory {memory.kind} of {manifest.space}; clients make theirs in the features of an "
            "encoder, with `recall-trainer distill --encoder NAME --method exact` and a budget that describes classes"
        )
    try:
        counts = read_counts(bundle)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return Client(path.stem, bundle, memory, space, counts)


def check_clients(clients: Sequence[Client]) -> None:
    """Raise ValueError if the clients have different encoders or spaces, or spell a label in two ways."""
    first = clients[0]
    spelled: dict[str, tuple[str, str]] = {}
    for client in clients:
        manifest, other = client.bundle.manifest, first.bundle.manifest
        if manifest.feature_encoder != other.feature_encoder or manifest.image != other.image:
            raise ValueError(
                f"{client.name} sees pictures through {_seen(client)} and {first.name} through {_seen(first)}; "
                "all clients must use one encoder and one size of pictures"
            )
        same = client.space.tensors()
        if any(not torch.equal(same[name], tensor) for name, tensor in first.space.tensors().items()):
            raise ValueError(
                f"the features of {client.name} are standardised otherwise than those of {first.name}; all clients "
                "must use an encoder whose features have length one, as `recall-trainer encoder add` writes it"
            )
        for label in client.bundle.labels:
            spelling, where = spelled.setdefault(folded(label), (label, client.name))
            if spelling != label:
                raise ValueError(
                    f"{client.name} has the label {label!r} and {where} the label {spelling!r}; classes that are the "
                    "same must be spelled alike, and others must differ by more than upper and lower case"
                )


def _seen(client: Client) -> str:
    encoder, image = client.bundle.manifest.feature_encoder, client.bundle.manifest.image
    assert encoder is not None, "read_client has seen to that"
    return f"{encoder.file} ({encoder.sha256[:12]}) at {image.height}x{image.width}"
