"""The settings of a server: environment variables with the prefix RECALL_, each of which is a flag of `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from limits import RateLimitItem, parse
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL

from recall_server.config.api_keys import ApiKeys

Device = Literal["auto", "cpu", "cuda"]
LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


class Settings(BaseSettings):
    """The settings of one server. Construction raises pydantic's ValidationError for an invalid value."""

    model_config = SettingsConfigDict(env_prefix="RECALL_", frozen=True, extra="ignore")

    host: Annotated[str, Field(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on; 0 takes a free one")] = 8000
    allow_public: Annotated[bool, Field(description="listen beyond this machine without any API key")] = False
    root_path: Annotated[
        str,
        Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$", description="path prefix that a proxy removes, such as /recall"),
    ] = ""
    trusted_proxies: Annotated[
        str, Field(description="addresses of proxies whose X-Forwarded-For names the caller, separated by commas")
    ] = ""
    api_keys: Annotated[
        SecretStr, Field(description="NAME:SCOPE:KEY, separated by commas; SCOPE is read, train or admin")
    ] = SecretStr("")
    artifacts: Annotated[Path, Field(description="folder with bundles/ and encoders/")] = Path("artifacts")
    public_key: Annotated[
        Path | None, Field(description="Ed25519 key in PEM that must have signed bundles.lock; without, none need have")
    ] = None
    state: Annotated[Path, Field(description="folder for jobs and trained classifiers")] = Path("state")
    database: Annotated[str, Field(description="SQLAlchemy URL of the job table; empty for a file in `state`")] = ""
    device: Annotated[Device, Field(description="where to train and to encode pictures: auto, cpu or cuda")] = "auto"
    workers: Annotated[
        int | Literal["ray"],
        Field(description="training processes; 0 for one per CUDA device, else one; ray for actors of a Ray cluster"),
    ] = 0
    ray_address: Annotated[str, Field(description="HOST:PORT of a running Ray cluster, for `workers` ray")] = ""
    ray_workers: Annotated[int, Field(ge=1, description="actors, each of which trains one classifier at a time")] = 1
    ray_cpus: Annotated[float, Field(gt=0, description="CPUs that an actor takes of its node")] = 1.0
    ray_gpus: Annotated[float, Field(ge=0, description="GPUs that an actor takes; without, it trains on the CPU")] = 0.0
    ray_seconds: Annotated[
        float, Field(gt=0, le=290, description="longest time for an actor to be placed and warm")
    ] = 120.0
    worker_threads: Annotated[
        int, Field(ge=0, description="threads of a training process; 0 for all cores, or for `ray_cpus`")
    ] = 0
    training_seconds: Annotated[float, Field(gt=0, description="longest time that one training may take")] = 600.0
    training_attempts: Annotated[int, Field(ge=1, description="tries for a training whose worker dies")] = 2
    queue_limit: Annotated[int, Field(ge=1, description="most trainings that wait, for each worker")] = 16
    queue_seconds: Annotated[float, Field(gt=0, description="longest time that a training may wait")] = 3600.0
    lease_seconds: Annotated[
        float, Field(gt=0, description="silence after which another server takes over a server's trainings")
    ] = 15.0
    keep_days: Annotated[float, Field(ge=0, description="days that a classifier is kept; 0 for ever")] = 30.0
    keep_bytes: Annotated[
        int, Field(ge=0, description="most bytes of all classifiers and their records; 0 for no limit")
    ] = 2**30
    min_free_bytes: Annotated[int, Field(ge=0, description="free bytes of disk below which nothing is trained")] = 2**28
    cache_bytes: Annotated[int, Field(ge=0, description="memory for answers to recalls; 0 keeps none")] = 2**26
    request_rate: Annotated[str, Field(description="requests of one caller, as in 600/minute; empty for any")] = ""
    work_rate: Annotated[
        str, Field(description="pictures computed for one caller, as in 1000000/hour; empty for any number")
    ] = ""
    max_body_bytes: Annotated[int, Field(ge=1024, description="largest request body")] = 64 * 2**20
    max_body_seconds: Annotated[float, Field(gt=0, description="longest time that a request body may take")] = 60.0
    max_picture_pixels: Annotated[
        int,
        Field(ge=1, description="most pixels (width times height) of a picture; a JPEG may have four times as many"),
    ] = 16_000_000
    max_request_pixels: Annotated[
        int, Field(ge=1, description="most pixels of all pictures of one request, and of those of one caller at a time")
    ] = 400_000_000
    max_pictures: Annotated[int, Field(ge=1, description="most pictures in one request")] = 1000
    max_classes: Annotated[int, Field(ge=2, description="most classes of one classifier")] = 1000
    max_recalled_numbers: Annotated[
        int, Field(ge=1, description="most numbers (images x channels x height x width) that one request recalls")
    ] = 32_000_000
    max_wait_seconds: Annotated[float, Field(ge=0, description="longest wait that `Prefer: wait` is granted")] = 60.0
    drain_seconds: Annotated[
        int, Field(ge=0, description="time for open requests and running trainings to end when stopping")
    ] = 5
    log_level: Annotated[LogLevel, Field(description="debug, info, warning or error")] = "info"
    log_format: Annotated[LogFormat, Field(description="console, or json for one object a line")] = "console"

    @property
    def keys(self) -> ApiKeys:
        """The API keys, as digests."""
        return ApiKeys.parse(self.api_keys.get_secret_value())

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the job table."""
        file = URL.create("sqlite", database=str(self.state.absolute() / "jobs.sqlite"))  # escapes what a URL must
        return self.database or file.render_as_string(hide_password=False)

    @field_validator("api_keys")
    @classmethod
    def _keys_can_be_read(cls, value: SecretStr) -> SecretStr:
        ApiKeys.parse(value.get_secret_value())
        return value

    @field_validator("workers", mode="before")
    @classmethod
    def _workers_can_be_read(cls, value: object) -> object:
        if value == "ray" or str(value).isdecimal():
            return value
        raise ValueError(f"{value!r} is neither a number of processes nor ray")

    @field_validator("request_rate", "work_rate")
    @classmethod
    def _rate_can_be_read(cls, value: str) -> str:
        rate(value)
        return value


def rate(text: str) -> RateLimitItem | None:
    """Parse a rate such as "600/minute"; None for an empty text. Raises ValueError."""
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a rate; write it like 600/minute") from error
