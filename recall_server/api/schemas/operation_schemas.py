"""The JSON of health, information and the index."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from recall_server.jobs.workers.backend import BackendState


class Live(BaseModel):
    status: Literal["live"] = "live"


class RejectedFile(BaseModel):
    file: str
    reason: str


class Readiness(BaseModel):
    """Whether everything can be done now; `encoders` says for each bundle of pictures where its encoder runs."""

    status: Literal["ready", "starting", "not ready"]
    reasons: list[str]
    bundles: list[str]
    rejected: list[RejectedFile]
    encoders: dict[str, str]
    worker: BackendState
    workers: int
    queued: int
    queue_limit: int


class Devices(BaseModel):
    """What was asked for, and where training and the query encoders really run."""

    requested: str
    training: str | None
    query_encoder: str | None


class Worker(BaseModel):
    """A training process, what it is about, and where it really computes, once that is known."""

    state: str
    device: str | None


class Info(BaseModel):
    name: str
    version: str
    python: str
    torch: str
    device: Devices
    limits: dict[str, int | float]
    rates: dict[str, str | None]
    bundles: int
    workers: list[Worker]


class Index(BaseModel):
    name: str
    version: str
    links: dict[str, str]
