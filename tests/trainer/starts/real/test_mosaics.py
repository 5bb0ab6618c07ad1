"""Small real pictures with soft labels: which are kept, and what their labels are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.memory import AbstractMemory, MultiFormation
from recall_server.core.preprocessing import Standardise
from tests.tolerances import assert_close
from trainer.data.encoders.installed import encoder_file
from trainer.data.splits import Split
from trainer.methods.named import compose
from trainer.starts.real.mosaics import Teacher, draw_pool, labelled_pictures

SPACE = Standardise(torch.tensor([0.5]), torch.tensor([0.25]))
HEAD = LinearHead(torch.tensor([[3.0, -1.0], [-2.0, 2.0]]), torch.tensor([0.5, 0.0]))


def halves(images: Tensor) -> Tensor:
    """A stand-in for an encoder: the mean of the upper half and of the lower half, for pictures of 4x4."""
    means = images.float().reshape(len(images), 2, -1).mean(dim=2) / 255
    return (means / 2**0.5)[:, :, None, None]  # which makes sqrt(2) times them the features of the teacher


def pictures(each: int = 9) -> Split:
    """Multiples of 64, which are still whole numbers after they are shrunk and enlarged."""
    images = torch.randint(0, 4, (2 * each, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Split(64 * images, torch.arange(2).repeat_interleave(each))


def made(split: Split, *, pool: int, rows: int = 4, temperature: float = 2.0) -> MultiFormation:
    def holding(items: Tensor) -> AbstractMemory:
        return MultiFormation.holding(items, factor=2)

    teacher = Teacher(HEAD, halves, SPACE)
    memory = labelled_pictures(split, teacher, pool=pool, rows=rows, temperature=temperature, holding=holding)
    assert isinstance(memory, MultiFormation)
    return memory


def shrunk(images: Tensor) -> Tensor:
    """Pictures uint8 [n, 1, 4, 4] as a memory recalls them, by torch's own layers."""
    small = torch.nn.functional.avg_pool2d(images.float() / 255, 2)
    large = torch.nn.functional.interpolate(small, size=(4, 4), mode="bilinear")
    return (255 * large).round().to(torch.uint8)


def test_the_pictures_with_the_smallest_loss_of_the_teacher_are_kept_with_its_centred_probabilities() -> None:
    split, memory = pictures(), made(pictures(), pool=7)
    logits = [HEAD.logits(2**0.5 * halves(shrunk(split.of_class(label, 7).images)).flatten(1)) for label in (0, 1)]
    centre = torch.cat(logits).mean(dim=0)
    for label in (0, 1):
        losses = torch.nn.functional.cross_entropy(logits[label], torch.full((7,), label), reduction="none")
        best = losses.argsort()[:4]
        expected = MultiFormation.holding(SPACE.to_model(split.of_class(label, 7).pixels())[best].unsqueeze(0), 2)
        assert_close(memory.stored[label], expected.stored[0], terms=16)
        probabilities = ((logits[label][best] - centre) / 2.0).softmax(dim=1)
        found = memory.targets.among(torch.eye(2))[label]
        assert_close(found, probabilities, terms=100, gain=float(logits[label].abs().max()))


def test_a_class_with_few_pictures_repeats_them() -> None:
    memory = made(pictures(each=3), pool=50)
    recalled = memory.items(torch.eye(2)).flatten(2)
    assert torch.equal(recalled[:, 0], recalled[:, 3])
    assert not torch.equal(recalled[:, 0], recalled[:, 1])


def test_a_pool_has_random_pictures_of_every_class() -> None:
    split = pictures(each=20)
    first, again, other = (draw_pool(split, 2, 5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first.labels.tolist() == [0] * 5 + [1] * 5
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert len(draw_pool(split, 2, 100, torch.Generator())) == 40


def test_soft_labels_need_no_outer_step_if_the_start_gives_them() -> None:
    assert compose("mosaics").memory.targets == "soft"
    with pytest.raises(ValueError, match="soft targets are learned by outer steps"):
        compose("mosaics", ["start=real"])


def test_an_encoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no encoder 'nobody'; there are .*efficientnet-lite0"):
        encoder_file("nobody")
    (tmp_path / "own.onnx").write_bytes(b"")
    assert encoder_file("own", tmp_path) == tmp_path / "own.onnx"
