"""Pictures for learners with a pre-trained encoder: a linear head on its features, or any network."""

from __future__ import annotations

from trainer.methods.families.selections import random
from trainer.methods.method import Method
from trainer.methods.specs.memories import MultiFormationSpec
from trainer.methods.specs.pretrained.mosaics import LabelledStart


def mosaics() -> Method:
    """Small real pictures with soft labels of an encoder's head, sixteen in the space of one."""
    return random().varied(
        "mosaics", citation="Sun et al., RDED (2024), with smaller pictures and stored labels", start=LabelledStart(),
        memory=MultiFormationSpec(factor=4, targets="soft", targets_per="item"),
    )  # fmt: skip


METHODS = (mosaics,)
