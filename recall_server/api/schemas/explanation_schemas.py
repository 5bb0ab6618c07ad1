"""The JSON of an explanation."""

from __future__ import annotations

from pydantic import BaseModel, Field

from recall_server.service.explanations import Explanation, Influence


class ItemInfluence(BaseModel):
    """A recalled item, and what it did to the class that is explained."""

    label: str = Field(description="the class that the item was recalled for")
    bundle: str
    row: int = Field(description="which of the items that its memory recalls for the class, counted from 0")
    influence: float = Field(
        description="the log-odds of the explained class, less those of a head that is trained without the item"
    )
    probability_without: float = Field(description="the probability of the explained class without the item")

    @classmethod
    def of(cls, found: Influence) -> ItemInfluence:
        return cls(**vars(found))


class ExplanationAnswer(BaseModel):
    """What spoke for and against `label`, the strongest first. Items without any influence are not listed."""

    label: str
    predicted: str = Field(description="the most probable class")
    probability: float = Field(description="the probability of `label`")
    log_odds: float = Field(description="the logarithm of p / (1 - p), for the probability p of `label`")
    items: int = Field(description="the number of items that the classifier was trained on")
    supporting: list[ItemInfluence]
    opposing: list[ItemInfluence]

    @classmethod
    def of(cls, found: Explanation) -> ExplanationAnswer:
        sides = {
            "supporting": [ItemInfluence.of(each) for each in found.supporting],
            "opposing": [ItemInfluence.of(each) for each in found.opposing],
        }
        return cls(**vars(found) | sides)
