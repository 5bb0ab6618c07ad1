"""Pictures to learn from, seen more than once.

Of a class with one picture, a head knows a single view. Crops of two corners say how little a shift and another scale
change, so that the mean of their features is nearer to the mean of the class. Views are not mirrored: classes may
differ by nothing else, such as hands, arrows and letters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

SHARE: Final = 7 / 8  # of the sides of a picture that a crop sees; chosen on explored classes (few_shot_features.py)
CORNERS: Final = ((0, 0), (1, 1))  # top left and bottom right; the other two add less than 0.1 points
MOST: Final = 50  # pictures that are seen more than once; more vary enough, and encoding takes time

Encode = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def features_of_views(encode: Encode, pixels: NDArray[np.float32]) -> Tensor:
    """Pictures [N, C, H, W] in 0..1 -> the mean features [N, D] of their views; of more than MOST, of themselves."""
    features = encode(pixels)
    if len(pixels) <= MOST:
        crops = [encode(_crop(pixels, bottom, right)) for bottom, right in CORNERS]
        features = np.mean([features, *crops], axis=0)
    return torch.from_numpy(features)


def _crop(pixels: NDArray[np.float32], bottom: int, right: int) -> NDArray[np.float32]:
    """A corner of each picture, enlarged to its size."""
    height, width = pixels.shape[2:]
    rows, columns = round(SHARE * height), round(SHARE * width)
    top, left = bottom * (height - rows), right * (width - columns)
    crop = torch.from_numpy(pixels[:, :, top : top + rows, left : left + columns])
    return interpolate(crop, size=(height, width), mode="bilinear", align_corners=False).numpy()
