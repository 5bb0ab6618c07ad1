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
    """Whether the server can do all its work. `encoders` has the device of each query encoder by bundle."""

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
    """The requested device, and the devices that training and query encoders run on."""

    requested: str
    training: str | None
    query_encoder: str | None


class Worker(BaseModel):
    """A training process, what it is doing, and once they are known its device and the node of a cluster."""

    state: str
    device: str | None
    node: str | None


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
