"""Decoded images are what artifacts/README.md says, number by number, and begin at the scale of images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from recall_server.core.memory import ImageGenerator, LatentCodes
from recall_server.core.memory.decoded import Decoders, DecoderShape, code_size, initial_decoders
from tests.recall_server.core.memory.test_memory import image_generator, latent_codes, random
from tests.tolerances import assert_close


def cross_correlated(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3x3 cross-correlation with zero padding, pixel by pixel."""
    channels, height, width = image.shape
    result = bias.view(-1, 1, 1).repeat(1, height, width)
    for row in range(height):
        for column in range(width):
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    if 0 <= row + down < height and 0 <= column + right < width:
                        result[:, row, column] += (
                            weight[:, :, down + 1, right + 1] @ image[:, row + down, column + right]
                        )
    return result


def decoded(decoders: Decoders, number: int, code: Tensor, height: int, width: int) -> Tensor:
    image = code
    for name in ("first", "second", "last"):
        image = cross_correlated(image, decoders.weights[name][number], decoders.biases[name][number])
        if name != "last":
            image = torch.where(image < 0, image / 10, image)
            image = image.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return image[:, :height, :width]


def test_a_label_recalls_each_of_its_codes_by_each_decoder() -> None:
    memory = latent_codes()
    recalled = memory.items(torch.eye(4, dtype=torch.float64)[1:2])[0]
    expected = [decoded(memory.decoders, number, code, 6, 4) for code in memory.stored[1] for number in (0, 1)]
    assert_close(recalled, torch.stack(expected), terms=3 * 9 * 3)


def test_a_mixture_of_labels_recalls_images_of_their_mixed_codes() -> None:
    memory = latent_codes()
    mixed = LatentCodes(memory.stored[:1] * 0.3 + memory.stored[1:2] * 0.7, memory.decoders, 6, 4)
    query = torch.tensor([[0.3, 0.7, 0, 0]], dtype=torch.float64)
    assert_close(memory.items(query), mixed.items(torch.ones(1, 1, dtype=torch.float64)), terms=3 * 9 * 3)


def test_a_generator_makes_images_of_noise_and_label() -> None:
    memory = image_generator()
    recalled = memory.items(torch.eye(4, dtype=torch.float64)[2:3])[0]
    inside = memory.noise @ memory.noise_weight + memory.label_weight[2] + memory.bias
    codes = torch.where(inside < 0, inside / 10, inside).reshape(3, 2, 2, 1)
    assert_close(recalled, torch.stack([decoded(memory.decoders, 0, code, 6, 4) for code in codes]), terms=3 * 9 * 3)


@pytest.mark.parametrize("memory", [latent_codes(), image_generator()], ids=lambda memory: memory.kind)
def test_gradients_reach_every_tensor(memory: LatentCodes | ImageGenerator) -> None:
    names, queries = list(memory.tensors()), torch.eye(4, dtype=torch.float64)[:2]

    def items(*values: Tensor) -> Tensor:
        return memory.replace(dict(zip(names, values, strict=True))).items(queries)

    values = [value.clone().requires_grad_() for value in memory.tensors().values()]
    assert gradcheck(items, values, fast_mode=True)


def test_codes_are_a_quarter_of_the_images_rounded_up() -> None:
    assert code_size(28, 32) == (7, 8)
    assert code_size(9, 1) == (3, 1)


def test_random_decoders_keep_the_scale_of_their_codes() -> None:
    decoders = initial_decoders(DecoderShape(3, 8, 32, 3), torch.Generator().manual_seed(0))
    images = decoders(torch.randn(20, 8, 7, 7, generator=torch.Generator().manual_seed(1)), 28, 28)
    assert images.shape == (20, 3, 3, 28, 28)
    assert 0.3 < float(images.std()) < 3
    assert sum(value.numel() for value in decoders.tensors().values()) == decoders.shape.numbers


def test_shapes_that_do_not_fit_each_other_are_refused() -> None:
    memory = image_generator()
    with pytest.raises(
        ValueError, match=r"codes must be \[labels, codes, 2, 2, 1\] for images of 6x4, not \[4, 2, 2, 3, 1\]"
    ):
        LatentCodes(random(4, 2, 2, 3, 1), latent_codes().decoders, 6, 4)
    with pytest.raises(ValueError, match="a generator has noise"):
        memory.replace({"bias": random(1, 5)})
    with pytest.raises(ValueError, match="a height and a width"):
        LatentCodes.from_tensors(latent_codes().tensors(), {"targets": "hard"})
