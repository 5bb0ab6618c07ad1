"""What a classifier says of several pictures: probabilities, each made into names only when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, final, overload

import numpy as np
from numpy.typing import NDArray

from recall_server.core.classifier.familiarity import NONE_BELOW
from recall_server.errors import InvalidRequest
from recall_server.service.loaded_classifiers import AnswerSource

LISTED_CLASSES: Final = 256  # that each prediction names unless a caller asks for another number
LARGEST_ANSWER: Final = 32 * 2**20  # bytes of JSON
NUMBER_BYTES: Final = 26  # of one probability in JSON, with punctuation
FAMILIARITY_BYTES: Final = 80  # of a picture's familiarity, with the names of both keys


@final
@dataclass(frozen=True)
class Prediction:
    """The most probable label of one picture, the probabilities of the listed ones, and what answered.

    `familiarity`, 0 to 1, is the chance that the picture shows one of the classes, as if half of all pictures did;
    `none_of_these` says that it is below the threshold. Both are None if the classifier does not know.
    """

    label: str
    probabilities: dict[str, float]
    by: AnswerSource = "classifier"
    familiarity: float | None = None
    none_of_these: bool | None = None


@final
@dataclass(frozen=True, eq=False)
class Predictions(Sequence[Prediction]):
    """The predictions of `probabilities` [N, k]; each lists its `top` most probable labels, in the order of `labels`.

    `top` None lists all labels, or LISTED_CLASSES of them where there are more. `familiarity` [N] may be None; pictures
    with less than `none_below` are of none of the classes.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    by: AnswerSource
    top: int | None = None
    familiarity: NDArray[np.float32] | None = None
    none_below: float = NONE_BELOW

    def __len__(self) -> int:
        return len(self.probabilities)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> Predictions: ...

    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        if isinstance(index, slice):
            some = None if self.familiarity is None else self.familiarity[index]
            return replace(self, probabilities=self.probabilities[index], familiarity=some)
        row: list[float] = self.probabilities[index].tolist()
        # Without numpy where it can be: its functions let go of the interpreter's lock, for which others wait.
        listed: Iterable[int] = range(len(row))
        if (count := listed_classes(len(row), self.top)) < len(row):
            listed = sorted(np.argsort(-self.probabilities[index], kind="stable")[:count].tolist())
        probabilities = {self.labels[position]: row[position] for position in listed}
        label = self.labels[row.index(max(row))]
        if self.familiarity is None:
            return Prediction(label, probabilities, self.by)
        familiarity = float(self.familiarity[index])
        return Prediction(label, probabilities, self.by, familiarity, familiarity < self.none_below)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several parts of the same request, in order."""
    familiar = [part.familiarity for part in parts if part.familiarity is not None]
    return replace(
        parts[0],
        probabilities=np.concatenate([part.probabilities for part in parts]),
        familiarity=np.concatenate(familiar) if familiar else None,
    )


def listed_classes(classes: int, top: int | None) -> int:
    """How many of so many classes each prediction lists."""
    return min(classes, LISTED_CLASSES if top is None else top)


def check_answer_size(pictures: int, labels: Sequence[str], top: int | None) -> None:
    """Raises InvalidRequest where the predictions of so many pictures may be larger than an answer can be."""
    names = sorted((len(json.dumps(label, ensure_ascii=False).encode()) for label in labels), reverse=True)
    listed = names[: listed_classes(len(labels), top)]
    size = pictures * (sum(listed) + NUMBER_BYTES * len(listed) + FAMILIARITY_BYTES)
    if size > LARGEST_ANSWER:
        raise InvalidRequest(
            f"the probabilities of {len(listed)} classes for {pictures} pictures may take {size:,} bytes, more than "
            f"the {LARGEST_ANSWER:,} of one answer; send fewer pictures at a time, or ask for the most probable "
            "classes, as in ?top=5",
            parameter="top",
        )
