"""The JSON of bundles and of views of a memory."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from recall_server.api.schemas.schemas import RequestModel, png_uri
from recall_server.core.bundle.manifest import Accuracy, Manifest
from recall_server.core.reports.inspection import displayed_bases, has_bases, has_similarity, similarity
from recall_server.core.reports.stated_accuracy import StatedAccuracy, stated_accuracy
from recall_server.jobs.rows.records import BundleIdentity, ImageSize
from recall_server.library import LoadedBundle


class BasesParameters(RequestModel):
    format: Literal["json", "png"] | None = Field(None, description="overrides the header Accept")


class SimilarityParameters(RequestModel):
    labels: list[str] | None = Field(None, description="separated by commas, or repeated; default: all")

    def names(self) -> list[str] | None:
        return None if self.labels is None else [name for text in self.labels for name in text.split(",")]


class BasesAnswer(BaseModel):
    """The bases as 8-bit PNGs in data URIs, each stretched to its own range. `image` is their stored size."""

    bundle: BundleIdentity
    image: ImageSize
    bases: list[str]

    @classmethod
    def of(cls, loaded: LoadedBundle) -> BasesAnswer:
        bases = displayed_bases(loaded.bundle)
        channels, height, width = bases.shape[1:]
        return cls(
            bundle=BundleIdentity(name=loaded.name, sha256=loaded.sha256),
            image=ImageSize(channels=channels, height=height, width=width),
            bases=[png_uri(basis) for basis in bases],
        )


class SimilarityAnswer(BaseModel):
    """Cosine similarities, -1 to 1, of the labels' coefficients. Rows and columns are in the order of `labels`."""

    bundle: BundleIdentity
    labels: list[str]
    similarity: list[list[float]]

    @classmethod
    def of(cls, loaded: LoadedBundle, labels: list[str] | None) -> SimilarityAnswer:
        names = list(loaded.bundle.labels) if labels is None else labels
        return cls(
            bundle=BundleIdentity(name=loaded.name, sha256=loaded.sha256),
            labels=names,
            similarity=similarity(loaded.bundle, names),
        )


class MemorySummary(BaseModel):
    kind: str
    rows: int
    query_size: int


class EncoderSummary(BaseModel):
    """The query encoder, and the device that it runs on."""

    file: str
    sha256: str
    provider: str


class BundleSummary(BaseModel):
    name: str
    sha256: str
    file_bytes: int
    dataset_bytes: int = Field(description="size of the images that it was made from, at one byte per number")
    queries: Literal["labels", "images"]
    labels: list[str]
    groups: dict[str, list[str]]
    image: ImageSize
    memory: MemorySummary
    network: str
    dataset: str
    images_per_class: float
    accuracy: list[Accuracy]
    stated_accuracy: StatedAccuracy | None = Field(
        description="the accuracy to show: the latest by the bundle's own schedule, or else the latest of all"
    )
    query_encoder: EncoderSummary | None
    space: Literal["pixels", "features"]
    links: dict[str, str | None] = Field(description="null for what this kind of memory does not have")


class BundleDetails(BundleSummary):
    manifest: Manifest


class BundleList(BaseModel):
    bundles: list[BundleSummary]
    aliases: dict[str, list[str]] = Field(description="further names, each with its labels and groups")


def bundle_summary(loaded: LoadedBundle, root: str = "") -> BundleSummary:
    """The answer; its links begin with `root`."""
    bundle, manifest = loaded.bundle, loaded.bundle.manifest
    encoder = None
    if loaded.encoder is not None and manifest.query_encoder is not None:
        reference = manifest.query_encoder
        encoder = EncoderSummary(file=reference.file, sha256=reference.sha256, provider=loaded.encoder.provider)
    return BundleSummary(
        name=loaded.name,
        sha256=loaded.sha256,
        file_bytes=bundle.file_bytes or 0,
        dataset_bytes=manifest.budget.dataset_bytes,
        queries=manifest.queries,
        labels=list(manifest.labels),
        groups={name: list(members) for name, members in manifest.groups.items()},
        image=ImageSize(channels=manifest.image.channels, height=manifest.image.height, width=manifest.image.width),
        memory=MemorySummary(kind=bundle.memory.kind, rows=bundle.memory.rows, query_size=bundle.memory.query_size),
        network=str(manifest.retraining.network),
        dataset=manifest.provenance.dataset,
        images_per_class=manifest.budget.images_per_class,
        accuracy=list(manifest.accuracy),
        stated_accuracy=stated_accuracy(manifest),
        query_encoder=encoder,
        space=manifest.space,
        links=_links(loaded, root),
    )


def _links(loaded: LoadedBundle, root: str) -> dict[str, str | None]:
    path = f"{root}/bundles/{loaded.name}"
    return {
        "self": path,
        "card": f"{path}/card",
        "bases": f"{path}/bases" if has_bases(loaded.bundle) else None,
        "similarity": f"{path}/similarity" if has_similarity(loaded.bundle) else None,
    }


def bundle_details(loaded: LoadedBundle, root: str = "") -> BundleDetails:
    """The answer; its links begin with `root`."""
    return BundleDetails(**dict(bundle_summary(loaded, root)), manifest=loaded.bundle.manifest)
