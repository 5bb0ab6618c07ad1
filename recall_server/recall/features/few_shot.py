"""A head for classes that are given by a few pictures each, with the help of a memory of features.

pictures     logistic regression on the features of the pictures
prototypes   the nearest class mean, by cosine
recalled     for each class the memory recalls what else it should look like; the head for that, in closed form
together     the sum of the heads `recalled` and `pictures`
auto         the way that predicts left-out pictures best; it needs two pictures or more of every class
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from recall_server.core.classifier.class_statistics import LinearHead, TwoCovariances

HeadWay = Literal["pictures", "prototypes", "recalled", "together"]
WAYS: Final[tuple[HeadWay, ...]] = get_args(HeadWay)
DEFAULT: Final[HeadWay] = "together"  # best on validation classes (benchmarks/few_shot_features.py)
STEPS: Final = 60  # of accelerated descent: logits are stable to 1e-2
STRENGTH: Final = 1.0  # inverse regularisation of logistic regression on features of length one, as in scikit-learn
PICTURES_SHARE: Final = 0.2  # of the head on the pictures, in `together`, where that which is recalled has 1
SPREAD: Final = 3.0  # of logits of either
SCALE: Final = 10.0  # logits of the nearest class mean, for each unit of cosine
LEFT_OUT_ALONE: Final = 50  # pictures up to which each is left out alone; of more, a fold of them is
FOLDS: Final = 10
MARGIN: Final = 1.0  # standard errors by which another way has to beat the default


@final
@dataclass(frozen=True, eq=False)
class FewShotHead:
    """The head, the way it was made, and whether each way got each picture right when it was left out, 1 or 0 [N].

    `right` is empty if the ways were not compared.
    """

    head: LinearHead
    way: HeadWay
    right: Mapping[HeadWay, Tensor]

    @property
    def scores(self) -> dict[HeadWay, float]:
        """The share of pictures that each way got right."""
        return {way: float(values.mean()) for way, values in self.right.items()}


def few_shot_head(
    features: Tensor, labels: Tensor, model: TwoCovariances | None, way: HeadWay | Literal["auto"] = "auto"
) -> FewShotHead:
    """A head for k classes from pictures' features [N, D] with labels [N] in 0..k - 1, one or more of each class.

    Raises ValueError without a `model` for ways other than `auto`, `pictures` and `prototypes`.
    """
    features, members = features.float(), one_hot(labels).to(features.float())
    if way != "auto":
        return FewShotHead(_heads(features, members, model, [way])[way], way, {})
    ways = WAYS if model is not None else WAYS[:2]
    default: HeadWay = DEFAULT if model is not None else "pictures"
    if int(torch.bincount(labels).min()) < 2:
        return FewShotHead(_heads(features, members, model, [default])[default], default, {})
    right = left_out(features, labels, lambda pictures, others: _heads(pictures, others, model, ways))
    best = _choose(right, default)
    return FewShotHead(_heads(features, members, model, [best])[best], best, right)


def _choose(right: Mapping[HeadWay, Tensor], default: HeadWay) -> HeadWay:
    """The default, unless another way is better by more than the noise of the comparison."""
    best, most = default, 0.0
    for way, values in right.items():
        gain = values - right[default]
        noise = MARGIN * float(gain.std()) / len(gain) ** 0.5
        if float(gain.mean()) > max(most, noise):
            best, most = way, float(gain.mean())
    return best


def left_out(
    features: Tensor, labels: Tensor, make: Callable[[Tensor, Tensor], Mapping[HeadWay, LinearHead]]
) -> dict[HeadWay, Tensor]:
    """Whether pictures [N, D] are recognised by heads made without them, 1 or 0 [N], for each way that `make` knows.

    Each picture is left out alone or, of many, together with a share 1 / FOLDS of its class.
    """
    position = torch.arange(len(labels))
    fold = position if len(labels) <= LEFT_OUT_ALONE else _place_in_class(labels) % FOLDS
    folds = int(fold.max()) + 1
    members = one_hot(labels).to(features).repeat(folds, 1, 1)  # [folds, N, k]
    members[fold, position] = 0
    found = {}
    for way, head in make(features.unsqueeze(0), members).items():
        logits = head.logits(features.unsqueeze(0))[fold, position]  # [N, k]
        found[way] = (logits.argmax(dim=1) == labels).float()
    return found


def _place_in_class(labels: Tensor) -> Tensor:
    """How many earlier pictures [N] have the same label."""
    members = one_hot(labels)
    return members.cumsum(dim=0)[torch.arange(len(labels)), labels] - 1


def _heads(
    features: Tensor, members: Tensor, model: TwoCovariances | None, ways: Sequence[HeadWay]
) -> dict[HeadWay, LinearHead]:
    """The heads of these ways; arguments as for `class_means`."""
    if model is None and not {"pictures", "prototypes"}.issuperset(ways):
        raise ValueError(f"{' and '.join(ways)} need what a memory of features knows of its classes")
    both = "together" in ways
    found: dict[HeadWay, LinearHead] = {}
    if both or "pictures" in ways:
        found["pictures"] = logistic(features, members)
    if "prototypes" in ways:
        found["prototypes"] = nearest_mean(features, members)
    if model is not None and (both or "recalled" in ways):
        found["recalled"] = recalled(features, members, model)
    if both:
        found["together"] = together(features, found["recalled"], found["pictures"])
    return {way: found[way] for way in ways}


def class_means(features: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Features [..., N, D] and `members` [..., N, k], one-hot or zero -> means [..., k, D] and counts [..., k]."""
    counts = members.sum(dim=-2)
    return (members / counts.unsqueeze(-2)).transpose(-1, -2) @ features, counts


def nearest_mean(features: Tensor, members: Tensor) -> LinearHead:
    """Cosine with the mean of each class, of features of length one; arguments as for `class_means`."""
    means, counts = class_means(normalize(features, dim=-1), members)
    return LinearHead(SCALE * normalize(means, dim=-1), torch.zeros_like(counts).expand(means.shape[:-1]))


def logistic(features: Tensor, members: Tensor) -> LinearHead:
    """Softmax regression, regularised as in scikit-learn, where all classes have the same weight.

    Arguments as for `class_means`. With a class of two pictures and one of one, the bias alone would decide.
    """
    among = members.sum(dim=-1)
    scale = among.sum(dim=-1) / (among * features.square().sum(dim=-1)).sum(dim=-1)
    scale = scale[..., None, None]  # pictures have length one on average
    products = features @ features.transpose(-1, -2)
    # No eigenvalue exceeds the largest sum of a row, and the ones that the bias adds have the norm N.
    norm = scale * products.abs().sum(dim=-1).amax(dim=-1)[..., None, None] + products.shape[-1]
    counts = members.sum(dim=-2, keepdim=True)
    weighted = members / counts * counts.mean(dim=-1, keepdim=True)
    multipliers = _dual(scale * products + 1, norm, STRENGTH * weighted)
    return LinearHead(multipliers.transpose(-1, -2) @ features * scale, multipliers.sum(dim=-2))


def recalled(features: Tensor, members: Tensor, model: TwoCovariances) -> LinearHead:
    """The head for what the memory expects of further pictures of each class; arguments as for `class_means`."""
    return model.head(*class_means(model.whiten(features), members))


def together(features: Tensor, recalled: LinearHead, pictures: LinearHead) -> LinearHead:
    """The sum of both heads, each scaled by the spread of its logits on the pictures [..., N, D]."""
    parts = []
    for head, share in ((recalled, 1.0), (pictures, PICTURES_SHARE)):
        spread = head.logits(features).std(dim=(-2, -1)) / (share * SPREAD)
        parts.append(LinearHead(head.weights / spread[..., None, None], head.bias / spread[..., None]))
    return LinearHead(parts[0].weights + parts[1].weights, parts[0].bias + parts[1].bias)


def _dual(products: Tensor, norm: Tensor, members: Tensor) -> Tensor:
    """Multipliers A [..., N, k] such that W = A^T X, b = sum of A minimises the regularised cross-entropy.

    The loss is the sum of cross-entropies of x W^T + b over all rows, weighted by `members` [..., N, k], plus half the
    squared norm of W and b; `products` [..., N, N] are X X^T + 1, where the bias is one more feature, and `norm`
    [..., 1, 1] is a bound of their spectral norm. By accelerated gradient descent (Nesterov, 1983).
    """
    among = members.sum(dim=-1, keepdim=True)
    rate = 1 / (1 + among.amax(dim=-2, keepdim=True) / 2 * norm)
    found = ahead = torch.zeros_like(members)
    pace = 1.0
    for _ in range(STEPS):
        error = among * (products @ ahead).softmax(dim=-1) - members
        new = ahead - rate * (error + ahead)
        faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        found, ahead, pace = new, new + (pace - 1) / faster * (new - found), faster
    return found
