"""From pictures of classes to a head in an encoder's features, alone or among labels of memories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from recall_server.core.classifier.familiarity import Familiarity
from recall_server.errors import UnsupportedQuery
from recall_server.recall.addressing import check_one_class_each
from recall_server.recall.features.calibration import MANY, mean_familiarity, picture_familiarity
from recall_server.recall.features.few_shot import FewShotHead, HeadWay, few_shot_head
from recall_server.recall.features.few_shot import class_means as means_and_counts
from recall_server.recall.features.known_classes import mean_features
from recall_server.recall.features.picture_space import PictureSpace
from recall_server.recall.joined_head import HeadSource
from recall_server.recall.queries import Query, by_class
from recall_server.recall.stored_heads import head_with_pictures, holds_head
from recall_server.recall.uploads import Picture, PictureLimits, decode_all

HOW: Final[dict[HeadWay, str]] = {
    "pictures": "A logistic regression learned from the features of the pictures.",
    "prototypes": "A picture goes to the class with the nearest mean of features.",
    "recalled": "The head follows from what {memory} recalls for the pictures: how further ones are expected to look.",
    "together": "The head follows from what {memory} recalls for the pictures, and from a logistic regression on them.",
}
NOT_COMPARED: Final = "A class of a single picture leaves nothing to compare the ways by."
NOTHING_KNOWN: Final = (
    "No loaded memory says how its classes vary in the features of this encoder, so nothing was recalled."
)


@final
@dataclass(frozen=True, eq=False)
class PictureHead:
    """A head over `labels`: those of `queries`, if any, and then the other classes of pictures, `counts` of each.

    `members` [N] is the class of each picture, `explanation` a sentence or more on how the pictures were used.
    """

    labels: tuple[str, ...]
    counts: dict[str, int]
    made: FewShotHead
    members: Tensor
    space: PictureSpace
    familiarity: Familiarity | None
    explanation: str
    queries: tuple[Query, ...] = ()


def head_of_pictures(
    pictures: Sequence[Picture], space: PictureSpace, way: HeadWay | Literal["auto"], limits: PictureLimits
) -> PictureHead:
    """The head for classes that are the parts of the pictures.

    Raises InvalidRequest for a picture in two classes, UnsupportedQuery for a way that needs a memory where none helps,
    and errors as `decode_all`.
    """
    model = None if space.known is None else space.known.model
    if model is None and way in {"recalled", "together"}:
        raise UnsupportedQuery(f"{NOTHING_KNOWN} Use prototypes, pictures or auto", parameter="addressing")
    counts, features, members = _encoded(pictures, space, limits)
    made = few_shot_head(features, members, model, way)
    familiarity = None if model is None else picture_familiarity(features, members, model)
    said = [_how(made.way, space)]
    said += [_compared(made)] if made.right else [NOT_COMPARED] if way == "auto" else []
    said += [NOTHING_KNOWN] if model is None else []
    return PictureHead(tuple(counts), counts, made, members, space, familiarity, " ".join(said))


def head_among_labels(
    queries: Sequence[Query], pictures: Sequence[Picture], space: PictureSpace, limits: PictureLimits
) -> PictureHead:
    """The head for the labels of `queries`, of memories in the features of one encoder, and classes of pictures.

    A class of pictures that is named like a label is one class with it: both say what it looks like. Raises errors as
    `head_of_pictures`.
    """
    assert space.known is not None, "space_of_labels has seen to that"
    model, names = space.known.model, [query.name for query in queries]
    counts, features, members = _encoded(pictures, space, limits)
    labels = list(dict.fromkeys([*names, *counts]))
    shown = torch.tensor([labels.index(name) for name in counts])  # the classes of the pictures among all classes
    known = torch.cat([mean_features(query.loaded.bundle, query.vector.unsqueeze(0)) for query in queries])
    means, all_counts = _all_means(known, *means_and_counts(features, one_hot(members).to(features)), shown)
    asked = [(query.loaded.bundle, query.vector) for query in queries]
    if all(holds_head(bundle) for bundle, _ in asked):
        head = head_with_pictures(asked, HeadSource(features, shown[members], len(labels)))
        how = "The heads of the memories are joined with the pictures, by what typical features of all classes say."
    else:
        head = model.head(model.whiten(means), all_counts)
        how = f"The labels stand for what their memories recall. {_how('recalled', space)}"
    others = [label not in names for label in space.known.loaded.bundle.labels]
    familiarity = mean_familiarity(means, all_counts, model.known[torch.tensor(others)], model)
    return PictureHead(
        tuple(labels), counts, FewShotHead(head, "recalled", {}), members, space, familiarity, how,
        tuple(queries),
    )  # fmt: skip


def _all_means(known: Tensor, own: Tensor, shots: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Means [k, D] and counts [k] of `known` classes [m, D] and of those of pictures, which are at `shown` of all.

    The mean of a class that is both is halfway between the two.
    """
    new = shown >= len(known)
    means, counts = torch.cat([known, own[new]]), torch.cat([torch.full((len(known),), MANY), shots[new]])
    means[shown[~new]] = (known[shown[~new]] + own[~new]) / 2
    return means, counts


def _encoded(
    pictures: Sequence[Picture], space: PictureSpace, limits: PictureLimits
) -> tuple[dict[str, int], Tensor, Tensor]:
    """The number of pictures of each class, their features [N, D], and their classes [N], in the order of classes."""
    positions = by_class(pictures)
    check_one_class_each(pictures)
    pixels = decode_all(pictures, space.encoder.image_shape, limits=limits)
    features = torch.from_numpy(space.encoder.encode(pixels))
    wrong = next((at for at, row in enumerate(features.isfinite().all(dim=1).tolist()) if not row), None)
    if wrong is not None:
        raise UnsupportedQuery(
            f"the encoder {space.encoder.name} gives no finite numbers for {pictures[wrong].description}",
            parameter=pictures[wrong].part,
        )
    members = torch.cat([torch.full((len(at),), index) for index, at in enumerate(positions.values())])
    order = [position for at in positions.values() for position in at]
    return {name: len(at) for name, at in positions.items()}, features[order], members


def _how(way: HeadWay, space: PictureSpace) -> str:
    return HOW[way].format(memory="" if space.known is None else space.known.loaded.name)


def _compared(made: FewShotHead) -> str:
    scores = sorted(made.scores.items(), key=lambda item: -item[1])
    said = ", ".join(f"{way} {score:.0%}" for way, score in scores)
    count = len(next(iter(made.right.values())))
    return f"Of {count} pictures that were left out in turn, each way got right: {said}. Chosen: {made.way}."
