"""A linear head as training data: one vector per class, from which one training step recovers the head exactly.

The network `linear` begins at zero, where all classes are equally likely. One step of rate a with cross-entropy, on one
vector x_c of each of n classes, gives the weights (a / n)(x_c - mean of x) and no bias. The vectors x_c = (C / a) w_c
therefore store the weights w of C classes. The bias b is stored as a shift v of the features, w_c v = b_c, in the
preprocessing. For n of the C classes, the step gives their columns, times C / n. The closed form of Chen, Huang and
Weng (NeurIPS 2024) needs training until convergence, and recovers the head for all classes only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.networks.spec import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining

LARGEST_RATE: Final = 10.0  # of a schedule


class OneStep(NamedTuple):
    """`vectors` [C, D], the space that they are in, and the schedule of one step."""

    vectors: Tensor
    preprocessing: Standardise
    retraining: Retraining


def one_step(head: LinearHead, preprocessing: Standardise, *, centred: bool = True) -> OneStep:
    """The step that gives `head`, a head for features in the space of `preprocessing`.

    The logits of the two may differ by a number that all classes have in common. The sum of the vectors is zero if they
    are `centred`; otherwise they keep what the columns of the head have in common, which the step leaves out.
    """
    weights = head.weights - head.weights.mean(dim=0) if centred else head.weights  # a softmax sees no common part
    bias = head.bias - head.bias.mean()
    moved = preprocessing
    if bool(bias.any()):
        shift = torch.linalg.lstsq(weights.double(), bias.double(), driver="gelsd").solution.to(weights)
        moved = Standardise(preprocessing.mean - preprocessing.deviation * shift, preprocessing.deviation)
    classes = len(weights)
    rate = min(LARGEST_RATE, float(classes))
    schedule = Retraining(
        network=NetworkSpec(architecture="linear"), steps=1, learning_rate=rate, momentum=0, rows_per_class=1
    )
    return OneStep((classes / rate * weights).contiguous(), moved, schedule)
