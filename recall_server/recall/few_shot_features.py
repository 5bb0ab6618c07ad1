"""A head for classes of which there are only a few pictures, with the help of a memory of features.

pictures     logistic regression on the features of the pictures
prototypes   the nearest class mean, by cosine
recalled     for each class the memory recalls what else it should look like; the head for that, in closed form
together     the sum of the heads `recalled` and `pictures`
auto         the way that predicts each picture best when it is left out, where classes have two pictures or more
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
PICTURES_SHARE: Final = 0.3  # of the head on the pictures, in `together`, where that which is recalled has 1
SPREAD: Final = 3.0  # of logits of either
SCALE: Final = 10.0  # logits of the nearest class mean, for each unit of cosine
MOST_LEFT_OUT: Final = 50  # pictures, when ways are compared
MARGIN: Final = 1.0  # standard errors by which another way has to beat the default


@final
@dataclass(frozen=True, eq=False)
class FewShotHead:
    """The head, the way it was made, and the share of left-out pictures that each way got right; {} if not compared."""

    head: LinearHead
    way: HeadWay
    scores: Mapping[HeadWay, float]


def few_shot_head(
    features: Tensor, labels: Tensor, model: TwoCovariances | None, way: HeadWay | Literal["auto"] = "auto"
) -> FewShotHead:
    """A head for k classes from pictures' features [N, D] with labels [N] in 0..k - 1, one or more of each class.

    Without a `model` only `pictures` and `prototypes` can be asked for. Raises ValueError for what cannot.
    """
    features = features.float()
    if way != "auto":
        return FewShotHead(_make(way, model)(features, one_hot(labels).to(features)), way, {})
    ways = WAYS if model is not None else WAYS[:2]
    default = DEFAULT if model is not None else "pictures"
    if int(torch.bincount(labels).min()) < 2:
        return FewShotHead(_make(default, model)(features, one_hot(labels).to(features)), default, {})
    right = {each: left_out(features, labels, _make(each, model)) for each in ways}
    chosen = _choose(right, default)
    scores = {each: round(float(values.mean()), 4) for each, values in right.items()}
    return FewShotHead(_make(chosen, model)(features, one_hot(labels).to(features)), chosen, scores)


def _choose(right: dict[HeadWay, Tensor], default: HeadWay) -> HeadWay:
    """The default, unless another way is better by more than the noise of the comparison."""
    best, most = default, 0.0
    for way, values in right.items():
        gain = values - right[default]
        noise = MARGIN * float(gain.std()) / len(gain) ** 0.5
        if float(gain.mean()) > max(most, noise):
            best, most = way, float(gain.mean())
    return best


def left_out(features: Tensor, labels: Tensor, make: Callable[[Tensor, Tensor], LinearHead]) -> Tensor:
    """Whether pictures [N, D] are recognised by the head made from all others: float [n], n at most MOST_LEFT_OUT."""
    chosen = torch.linspace(0, len(labels) - 1, min(len(labels), MOST_LEFT_OUT)).round().long()
    members = one_hot(labels).to(features).repeat(len(chosen), 1, 1)  # [n, N, k]
    members[torch.arange(len(chosen)), chosen] = 0
    logits = make(features.unsqueeze(0), members).logits(features[chosen].unsqueeze(1))[:, 0]
    return (logits.argmax(dim=1) == labels[chosen]).float()


def _make(way: HeadWay, model: TwoCovariances | None) -> Callable[[Tensor, Tensor], LinearHead]:
    if way in {"recalled", "together"} and model is None:
        raise ValueError(f"{way} needs a memory of features")
    if way == "pictures":
        return logistic
    if way == "prototypes":
        return nearest_mean
    assert model is not None
    return lambda features, members: (recalled if way == "recalled" else together)(features, members, model)


def class_means(features: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Features [..., N, D] and `members` [..., N, k], one-hot or zero -> means [..., k, D] and counts [..., k]."""
    counts = members.sum(dim=-2)
    return (members / counts.unsqueeze(-2)).transpose(-1, -2) @ features, counts


def nearest_mean(features: Tensor, members: Tensor) -> LinearHead:
    """Cosine with the mean of each class, of features of length one; arguments as for `class_means`."""
    means, counts = class_means(normalize(features, dim=-1), members)
    return LinearHead(SCALE * normalize(means, dim=-1), torch.zeros_like(counts).expand(means.shape[:-1]))


def logistic(features: Tensor, members: Tensor) -> LinearHead:
    """Softmax regression, regularised as in scikit-learn; arguments as for `class_means`."""
    among = members.sum(dim=-1)
    scale = among.sum(dim=-1) / (among * features.square().sum(dim=-1)).sum(dim=-1)
    scale = scale[..., None, None]  # pictures have length one on average
    multipliers = _dual(scale * (features @ features.transpose(-1, -2)) + 1, members, STRENGTH)
    return LinearHead(multipliers.transpose(-1, -2) @ features * scale, multipliers.sum(dim=-2))


def recalled(features: Tensor, members: Tensor, model: TwoCovariances) -> LinearHead:
    """The head for what the memory expects of further pictures of each class; arguments as for `class_means`."""
    return model.head(*class_means(model.whiten(features), members))


def together(features: Tensor, members: Tensor, model: TwoCovariances) -> LinearHead:
    """The sum of the heads `recalled` and `pictures`, each scaled by the spread of its logits on the pictures."""
    parts = []
    for head, share in ((recalled(features, members, model), 1.0), (logistic(features, members), PICTURES_SHARE)):
        spread = head.logits(features).std(dim=(-2, -1)) / (share * SPREAD)
        parts.append(LinearHead(head.weights / spread[..., None, None], head.bias / spread[..., None]))
    return LinearHead(parts[0].weights + parts[1].weights, parts[0].bias + parts[1].bias)


def _dual(products: Tensor, members: Tensor, strength: float) -> Tensor:
    """Multipliers A [..., N, k] such that W = A^T X, b = sum of A minimises the regularised cross-entropy.

    The loss is strength * sum of cross-entropies of x W^T + b over all rows that are a member of a class, plus half the
    squared norm of W and b; `products` [..., N, N] are X X^T + 1, where the bias is one more feature. By accelerated
    gradient descent (Nesterov, 1983).
    """
    rate = 1 / (1 + strength / 2 * torch.linalg.matrix_norm(products, 2))[..., None, None]
    among = strength * members.sum(dim=-1, keepdim=True)
    found = ahead = torch.zeros_like(members)
    pace = 1.0
    for _ in range(STEPS):
        error = among * (products @ ahead).softmax(dim=-1) - strength * members
        new = ahead - rate * (error + ahead)
        faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        found, ahead, pace = new, new + (pace - 1) / faster * (new - found), faster
    return found
