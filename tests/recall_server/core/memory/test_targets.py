"""Targets are those of the queries at hand, whatever they are stored as."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recall_server.core.memory import Targets, initial_targets


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_hard_targets_are_one_hot() -> None:
    assert torch.equal(Targets().among(random(3, 5)), torch.eye(3).unsqueeze(1))


@pytest.mark.parametrize("rows", [1, 3])
def test_soft_targets_among_some_labels_are_the_softmax_of_their_logits(rows: int) -> None:
    logits = random(4, rows, 4)
    among = Targets("soft", logits).among(torch.eye(4)[[2, 0]])
    assert among.shape == (2, rows, 2)
    torch.testing.assert_close(among, logits[[2, 0]][:, :, [2, 0]].softmax(dim=2))


def test_soft_targets_of_a_mixture_are_the_mixture_of_targets() -> None:
    targets = Targets("soft", random(3, 1, 3))
    whole = targets.among(torch.eye(3))[:, 0]
    mixed = targets.among(torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))[0, 0]
    expected = (whole[0] + whole[1]) / 2
    expected = torch.stack([(expected[0] + expected[1]) / 2, expected[2]])
    torch.testing.assert_close(mixed, expected / expected.sum())


def test_unbounded_targets_are_the_stored_numbers_of_the_requested_rows() -> None:
    values = random(4, 3, 4)
    among = Targets("unbounded", values).among(torch.eye(4)[[1, 3]], torch.tensor([[2, 0], [1, 1]]))
    assert torch.equal(among[0], values[1, [2, 0]][:, [1, 3]])
    assert torch.equal(among[1], values[3, [1, 1]][:, [1, 3]])


def test_initial_targets_favour_the_own_label() -> None:
    soft = initial_targets("soft", 4, 2).among(torch.eye(4))
    torch.testing.assert_close(soft.diagonal(dim1=0, dim2=2), torch.full((2, 4), 0.9))
    unbounded = initial_targets("unbounded", 4, 2).among(torch.eye(4))
    torch.testing.assert_close(unbounded.sum(dim=2), torch.zeros(4, 2))


@pytest.mark.parametrize("form", ["soft", "unbounded"])
def test_added_labels_do_not_change_existing_targets(form: str) -> None:
    targets = Targets(form, random(3, 2, 3))  # type: ignore[arg-type]
    more = targets.extended([0, 2, 3], 5)
    known = torch.eye(5)[[0, 2, 3]]
    torch.testing.assert_close(more.among(known), targets.among(torch.eye(3)), rtol=0, atol=1e-5)
    alone = more.among(torch.eye(5))[1]
    assert bool((alone.argmax(dim=1) == 1).all()), "a new label is a class of its own"


@pytest.mark.parametrize(
    ("form", "values", "sentence"),
    [
        ("magic", None, "not one of hard, soft, unbounded"),
        ("hard", (3, 1, 3), "soft and unbounded targets are stored, hard ones are not"),
        ("soft", None, "soft and unbounded targets are stored"),
        ("soft", (3, 3), r"must be \[labels, rows or 1, labels\], not \[3, 3\]"),
        ("soft", (3, 1, 4), r"not \[3, 1, 4\]"),
    ],
)
def test_targets_that_do_not_agree_with_their_form_are_refused(
    form: str, values: tuple[int, ...] | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Targets(form, None if values is None else random(*values))  # type: ignore[arg-type]


def test_targets_of_another_memory_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[3, 2, 3\], not \[3, 4 or 1, 3\]"):
        Targets("soft", random(3, 2, 3)).check(3, 4)
