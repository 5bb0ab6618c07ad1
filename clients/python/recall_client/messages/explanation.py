"""The answer to "why this class?": the recalled items that spoke for and against it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Influence(BaseModel):
    """One recalled item: row `row`, counted from 0, of what the memory `bundle` recalls for the class `label`.

    `influence` is by how much the log-odds of the explained class fall when the head is trained without the item, and
    `probability_without` the probability of the class then.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    label: str
    bundle: str
    row: int
    influence: float
    probability_without: float


class Explanation(BaseModel):
    """What spoke for and against `label`, the strongest first; `predicted` is the most probable class of the picture.

    `probability` and `log_odds` are those of `label`. `items` is the number of all items of the classifier.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    label: str
    predicted: str
    probability: float
    log_odds: float
    items: int
    supporting: tuple[Influence, ...] = ()
    opposing: tuple[Influence, ...] = ()
