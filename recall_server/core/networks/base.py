"""A network is a pure function of explicit parameters: nothing is hidden in modules, so it can be differentiated
through its own training, compiled whole, and initialised from a seed without touching global random state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

Parameters = dict[str, Tensor]
CLASSIFIER: Final = "classifier"  # the last layer, of every architecture


@dataclass(frozen=True, kw_only=True)
class AbstractNetwork(ABC):
    """An architecture for images of [channels, height, width] and a number of classes; holds no weights.

    Its first layer sees them `shrink` times smaller, with zeros around where poolings would else drop a row.
    `convolution_dtype` is how convolutions are computed (None: as the images come), an execution detail that
    changes neither the parameters nor their precision. A network without convolutions ignores it.
    """

    channels: int
    height: int
    width: int
    classes: int
    shrink: int = 1
    convolution_dtype: torch.dtype | None = None

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter, in the order in which they are drawn from the generator."""

    @abstractmethod
    def features(self, parameters: Parameters, images: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, F], what the last layer sees, which is linear and named "classifier"."""

    @abstractmethod
    def logits(self, parameters: Parameters, images: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, classes]."""

    @property
    def downsampled_size(self) -> tuple[int, int]:
        """Height and width of shrunk images; what is left over at the right and below is dropped."""
        return self.height // self.shrink, self.width // self.shrink

    def padded_size(self) -> tuple[int, int]:
        """Height and width of the images that the first layer sees."""
        return self.downsampled_size

    def round_up(self, unit: int) -> tuple[int, int]:
        """The next multiples of `unit` from the height and width of shrunk images."""
        height, width = self.downsampled_size
        return -(-height // unit) * unit, -(-width // unit) * unit

    def padding(self) -> tuple[int, int, int, int]:
        """(left, right, top, bottom), as `torch.nn.functional.pad` takes it: the image stays in the middle."""
        (height, width), (inner_height, inner_width) = self.padded_size(), self.downsampled_size
        down, right = height - inner_height, width - inner_width
        return right // 2, right - right // 2, down // 2, down - down // 2

    def prepare(self, images: Tensor) -> Tensor:
        """[N, C, H, W] as the first layer sees them: shrunk, and with zeros around."""
        if self.shrink > 1:
            images = avg_pool2d(images, self.shrink)
        padding = self.padding()
        return pad(images, padding) if any(padding) else images

    def unprepare(self, gradient: Tensor) -> Tensor:
        """The transpose of `prepare`: from a gradient for what it gave, that for the images [N, C, H, W]."""
        left, _, top, _ = self.padding()
        height, width = self.downsampled_size
        gradient = gradient[:, :, top : top + height, left : left + width]
        if self.shrink == 1:
            return gradient
        spread = interpolate(gradient, scale_factor=float(self.shrink), mode="nearest") / self.shrink**2
        return pad(spread, (0, self.width - width * self.shrink, 0, self.height - height * self.shrink))

    def require(self, smallest: int, what: str, advice: str) -> None:
        """Raises ValueError with a sentence where the first layer would see less than `smallest` pixels a side."""
        if min(self.downsampled_size) < smallest:
            shrunk = f", shrunk {self.shrink} times," if self.shrink > 1 else ""
            raise ValueError(f"images of {self.height}x{self.width}{shrunk} are too small for {what}; {advice}")

    def initialise(self, generator: torch.Generator) -> Parameters:
        """Fresh float32 parameters on the CPU, the same for the same seed on every device.

        Weights and biases are uniform in +-1/sqrt(fan in), torch's own default and the one that the paper's
        authors use; scales of normalisation start at one and shifts at zero.
        """
        parameters: Parameters = {}
        bound = 1.0
        for name, shape in self.shapes().items():
            if name.endswith(".scale"):
                parameters[name] = torch.ones(shape)
            elif name.endswith(".shift"):
                parameters[name] = torch.zeros(shape)
            else:
                if name.endswith(".weight"):  # the bias that follows a weight shares its fan in
                    bound = torch.Size(shape[1:]).numel() ** -0.5
                parameters[name] = torch.empty(shape).uniform_(-bound, bound, generator=generator)
        return parameters

    def initialise_from(self, learned: Parameters) -> Parameters:
        """Parameters that begin with learned layers: `learned` are those of all but the last, which begins at zero.

        Raises ValueError, with a sentence, where these are not exactly the layers of this network.
        """
        parameters = {}
        for name, shape in self.shapes().items():
            parameters[name] = torch.zeros(shape) if name.startswith(CLASSIFIER) else learned.get(name, torch.empty(0))
        found = {name: tuple(value.shape) for name, value in parameters.items()}
        if found != self.shapes() or not parameters.keys() >= learned.keys():
            raise ValueError("the learned layers are not those of the network that is to begin with them")
        return parameters
