"""What an operator can set: environment variables with the prefix RECALL_, each of them a flag of `serve` too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Device = Literal["auto", "cpu", "cuda"]
LogLevel = Literal["debug", "info", "warning", "error"]


class Settings(BaseSettings):
    """The settings of one server; construction raises pydantic's ValidationError for a value that cannot be."""

    model_config = SettingsConfigDict(env_prefix="RECALL_", frozen=True, extra="ignore")

    host: Annotated[str, Field(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on; 0 takes a free one")] = 8000
    artifacts: Annotated[Path, Field(description="folder with bundles/ and encoders/")] = Path("artifacts")
    state: Annotated[Path, Field(description="folder for trained classifiers; one server each")] = Path("state")
    device: Annotated[Device, Field(description="where to train and to encode pictures: auto, cpu or cuda")] = "auto"
    worker_threads: Annotated[int, Field(ge=0, description="threads of the training process; 0 for all cores")] = 0
    training_seconds: Annotated[float, Field(gt=0, description="longest time that one training may take")] = 600.0
    max_body_bytes: Annotated[int, Field(ge=1024, description="largest request body")] = 64 * 2**20
    max_picture_pixels: Annotated[int, Field(ge=1, description="largest picture, width times height")] = 16_000_000
    max_pictures: Annotated[int, Field(ge=1, description="most pictures in one request")] = 1000
    max_classes: Annotated[int, Field(ge=2, description="most classes of one classifier")] = 1000
    max_recalled_numbers: Annotated[
        int, Field(ge=1, description="most numbers (images x channels x height x width) that one request recalls")
    ] = 32_000_000
    max_wait_seconds: Annotated[float, Field(ge=0, description="longest wait that `Prefer: wait` is granted")] = 60.0
    shutdown_seconds: Annotated[int, Field(ge=0, description="time for open requests to end when stopping")] = 5
    log_level: Annotated[LogLevel, Field(description="debug, info, warning or error")] = "info"
