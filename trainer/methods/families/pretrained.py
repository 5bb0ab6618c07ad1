"""Pictures for learners with a pre-trained encoder: a linear head on its features, or any network."""

from __future__ import annotations

from trainer.methods.families.selections import random
from trainer.methods.method import Method
from trainer.methods.specs.memories import MultiFormationSpec
from trainer.methods.specs.outer import Adam, Outer
from trainer.methods.specs.pretrained.linear_gradients import LinearGradientMatchingSpec
from trainer.methods.specs.pretrained.mosaics import LabelledStart


def mosaics() -> Method:
    """Small real pictures with soft labels of an encoder's head, sixteen in the space of one."""
    return random().varied(
        "mosaics", citation="Sun et al., RDED (2024), with smaller pictures and stored labels", start=LabelledStart(),
        memory=MultiFormationSpec(factor=4, targets="soft", targets_per="item"),
    )  # fmt: skip


def lgm() -> Method:
    """Pictures whose views give random heads on an encoder's features the gradients of real ones.

    The authors start from noise and learn an image pyramid, which is left out.
    """
    return random().varied(
        "lgm", citation="Cazenavette et al., Linear Gradient Matching (2025), and the authors' linear_gm.py",
        objective=LinearGradientMatchingSpec(), outer=Outer(optimiser=Adam(), rate=0.01, steps=5_000),
    )  # fmt: skip


def lgm_small() -> Method:
    """`lgm` with smaller pictures, fewer and larger views, and fewer and larger steps."""
    objective = {"size": 128, "views": 2, "real_views": 2, "real_per_class": 200, "smallest_crop": 0.3, "noise": 0.0}
    return lgm().varied("lgm-small", objective=objective, outer={"rate": 0.05, "decay": "cosine", "steps": 400})


METHODS = (mosaics, lgm, lgm_small)
