"""Preprocessing specs: the model space of networks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import NonNegativeFloat

from recall_server.core.memory import AbstractMemory
from recall_server.core.preprocessing import ZCA, AbstractPreprocessing, Projected, Spectral, Standardise
from trainer.data.second_moments import SecondMoments
from trainer.data.splits import Split
from trainer.methods.specs.spec import Spec, member_of


class PreprocessingSpec(Spec):
    """A map from pixel space to model space, fitted to the training pictures."""

    noun: ClassVar[str] = "preprocessing"

    def fit(self, train: Split, moments: SecondMoments | None) -> AbstractPreprocessing:
        """The fitted preprocessing. `moments` are those of all training pictures, if `train` is only a sample."""
        return Standardise.fit(train.images) if moments is None else moments.standardise()

    def onto(self, memory: AbstractMemory, fitted: AbstractPreprocessing) -> AbstractPreprocessing:
        """The model space for classifiers of this memory."""
        return fitted


class StandardiseSpec(PreprocessingSpec):
    """Mean zero and deviation one in each channel."""

    kind: Literal["standardise"] = "standardise"
    streams: ClassVar[bool] = True


class ZcaSpec(PreprocessingSpec):
    """Whitening of whole pictures."""

    kind: Literal["zca"] = "zca"
    ridge: NonNegativeFloat = 0.1

    def fit(self, train: Split, moments: SecondMoments | None) -> AbstractPreprocessing:
        return ZCA.fit(train.images, ridge=self.ridge)


class SpectralSpec(PreprocessingSpec):
    """Whitening by frequency."""

    kind: Literal["spectral"] = "spectral"
    ridge: NonNegativeFloat = 0.1

    def fit(self, train: Split, moments: SecondMoments | None) -> AbstractPreprocessing:
        return Spectral.fit(train.images, ridge=self.ridge)


class ProjectedSpec(PreprocessingSpec):
    """Standardised, then projected onto the bases of a memory that is not trained any more."""

    kind: Literal["projected"] = "projected"

    def onto(self, memory: AbstractMemory, fitted: AbstractPreprocessing) -> AbstractPreprocessing:
        if not isinstance(fitted, Standardise):
            return fitted
        return Projected.onto(memory.span().detach().cpu(), fitted)


PreprocessingPart = Annotated[PreprocessingSpec, member_of(PreprocessingSpec)]
