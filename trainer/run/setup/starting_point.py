"""`--start`: what a run begins from, and the settings of its method that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.networks import NetworkSpec
from trainer.methods.method import Method
from trainer.methods.named import compose

SECTIONS = (
    "objective",
    "retraining",
)  # sections of a method with a network: that of inner training, and that of classifiers


@dataclass(frozen=True)
class StartingPoint:
    """A bundle to continue, with the ONNX file of its encoder if it has one; or no bundle, and the word for a start.

    `fields` are overrides of the method that cannot be changed; `defaults` are overrides that further ones may change.
    """

    fields: tuple[str, ...] = ()
    defaults: tuple[str, ...] = ()
    bundle: MemoryBundle | None = None
    encoder: bytes | None = None

    @classmethod
    def read(cls, start: str | None) -> Self:
        """The start named by `principal`, `noise` or the path of a bundle; the words take precedence over paths.

        Raises ValueError for anything else and for a memory of features, and InvalidBundle for a bundle or an encoder
        that cannot be used.
        """
        if start is None:
            return cls()
        if start in ("principal", "noise"):
            return cls((f"start={start}",))
        if not Path(start).is_file():
            raise ValueError(f"--start must be principal, noise or the file of a bundle, not {start!r}")
        bundle = MemoryBundle.load(start)
        if bundle.manifest.space == "features":
            raise ValueError(
                f"{Path(start).name} is a memory of features, which no steps improve; make it anew from all "
                "pictures, with quickstart or distill --encoder"
            )
        reference = bundle.manifest.query_encoder
        if reference is None:
            return cls(("start=bundle",), (), bundle)
        encoder = QueryEncoder(encoder_folder(Path(start)) / reference.file, reference.sha256, device="cpu")
        size = f"queries.size={reference.query_size}"
        defaults = (size, "queries.pretraining_steps=0", *_encoder_network(bundle))
        return cls(("start=bundle",), defaults, bundle, encoder.model)

    def method(self, name: str | Method, overrides: Sequence[str]) -> Method:
        """The method of this name or value with the overrides, and with what this start requires."""
        asked = compose(name)
        defaults = self.defaults if asked.queries.kind == "images" else self._schedule(asked)
        if asked.retraining.initial == "encoder":  # then all networks must be like the existing encoder
            encoders = [each.partition("=")[2] for each in defaults if each.startswith("queries.encoder=")]
            defaults += tuple(f"{section}.network={each}" for each in encoders for section in SECTIONS)
        return compose(name, [*self.fields, *defaults, *overrides, *self.fields])

    def _schedule(self, asked: Method) -> tuple[str, ...]:
        """Overrides that keep the bundle's schedule, unless the method has its own.

        The memory was made for that schedule, and what an instant memory chose on validation pictures is kept.
        """
        if self.bundle is None or asked.schedule == "own" or self.bundle.manifest.queries != "labels":
            return ()
        schedule = self.bundle.manifest.retraining
        network = asked.objective.network.shrinking(schedule.network.shrink or 1)
        inner = f"objective.network={network}", f"objective.augmentation={schedule.augmentation}"
        return *inner, *(f"retraining.{name}={_as_override(value)}" for name, value in schedule)


def _as_override(value: object) -> str:
    """The text that `--set` takes for the value of a field."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _encoder_network(bundle: MemoryBundle) -> list[str]:
    """The override for the encoder's network in the manifest; none if it names no network."""
    text = str(bundle.manifest.provenance.hyper_parameters.get("queries.encoder", ""))
    try:
        NetworkSpec.parse(text)
    except ValueError:
        return []
    return [f"queries.encoder={text}"]
