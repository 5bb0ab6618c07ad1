"""The spec of a start from small real pictures with soft labels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat

from recall_server.core.memory import ITEMS, AbstractMemory, Targets
from trainer.data.encoders.installed import installed_encoder
from trainer.data.features import EncodingProgress, Featuriser, cache_folder
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.memories import MemorySpec
from trainer.methods.specs.problem import MemoryShape, Problem
from trainer.methods.specs.spec import Count
from trainer.methods.specs.starts import StartSpec
from trainer.starts.real.mosaics import Teacher, draw_pool, labelled_pictures


class LabelledStart(StartSpec):
    """Real pictures with the soft labels of a teacher at `temperature`.

    The teacher is a linear head on the features of the encoder `teacher`, which sees pictures enlarged to `size`. It
    learns `teacher_pictures` random pictures of each class. The first `pool` of them are candidates; those that the
    teacher is most certain of, as the memory recalls them, are kept.
    """

    kind: Literal["labelled"] = "labelled"
    traits: ClassVar[frozenset[str]] = frozenset({ITEMS})
    gives_targets: ClassVar[bool] = True
    teacher: str = "efficientnet-lite0"
    size: Annotated[int, Field(ge=8)] = 128
    teacher_pictures: Count = 1_000
    pool: Count = 300
    temperature: PositiveFloat = 3.0

    def memory(self, spec: MemorySpec, shape: MemoryShape, budget: MemoryBudget, problem: Problem) -> AbstractMemory:
        if len(shape.item_shape) != 3:
            raise ValueError("start=labelled chooses pictures, not features; use start=real")
        encoder = installed_encoder(self.teacher, self.size)
        featuriser = Featuriser(encoder, cache=cache_folder(), report=EncodingProgress())
        pictures = draw_pool(problem.dataset.train, shape.classes, self.teacher_pictures, problem.generator)
        memory = labelled_pictures(
            pictures,
            Teacher.taught(pictures, shape.classes, featuriser, problem.preprocessing),
            pool=self.pool,
            rows=budget.rows,
            temperature=self.temperature,
            holding=spec.holding,
        )
        return memory if spec.targets == "soft" else memory.with_targets(Targets())
