"""`--start`: what a run begins from, and what its method has to be for it."""

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

SECTIONS = ("objective", "retraining")  # of the two networks, the inner one and that of classifiers


@dataclass(frozen=True)
class StartingPoint:
    """A bundle to go on from with the ONNX file of its encoder, where it has one; or none, and a word for a start.

    `fields` are overrides of the method that hold whatever else is asked for; `defaults` those that may be overridden.
    """

    fields: tuple[str, ...] = ()
    defaults: tuple[str, ...] = ()
    bundle: MemoryBundle | None = None
    encoder: bytes | None = None

    @classmethod
    def read(cls, start: str | None) -> Self:
        """Of `principal`, `noise` or the path of a bundle, which is never taken for one of the words.

        Raises ValueError for what is neither, and InvalidBundle for a bundle, or an encoder of it, that cannot be used.
        """
        if start is None:
            return cls()
        if start in ("principal", "noise"):
            return cls((f"start={start}",))
        if not Path(start).is_file():
            raise ValueError(f"--start must be principal, noise or the file of a bundle, not {start!r}")
        bundle = MemoryBundle.load(start)
        reference = bundle.manifest.query_encoder
        if reference is None:
            return cls(("start=bundle",), (), bundle)
        encoder = QueryEncoder(encoder_folder(Path(start)) / reference.file, reference.sha256, device="cpu")
        size = f"queries.size={reference.query_size}"
        defaults = (size, "queries.pretraining_steps=0", *_encoder_network(bundle))
        return cls(("start=bundle",), defaults, bundle, encoder.model)

    def method(self, name: str | Method, overrides: Sequence[str]) -> Method:
        """The method as `compose` makes it of a name and overrides, and of what the start asks for."""
        asked = compose(name)
        defaults = self.defaults if asked.queries.kind == "images" else self._schedule(asked)
        if asked.retraining.initial == "encoder":  # then all networks are like the encoder that there is
            encoders = [each.partition("=")[2] for each in defaults if each.startswith("queries.encoder=")]
            defaults += tuple(f"{section}.network={each}" for each in encoders for section in SECTIONS)
        return compose(name, [*self.fields, *defaults, *overrides, *self.fields])

    def _schedule(self, asked: Method) -> tuple[str, ...]:
        """How classifiers of the bundle see pictures and are trained, where the method has no schedule of its own.

        The memory is for that schedule, and what an instant memory chose on validation pictures is not chosen again.
        """
        if self.bundle is None or asked.schedule == "own" or self.bundle.manifest.queries != "labels":
            return ()
        schedule = self.bundle.manifest.retraining
        network = asked.objective.network.shrinking(schedule.network.shrink or 1)
        inner = f"objective.network={network}", f"objective.augmentation={schedule.augmentation}"
        return *inner, *(f"retraining.{name}={value}" for name, value in schedule)


def _encoder_network(bundle: MemoryBundle) -> list[str]:
    """What the manifest says that the encoder is; nothing where it does not say, or what it says is no network."""
    text = str(bundle.manifest.provenance.hyper_parameters.get("queries.encoder", ""))
    try:
        NetworkSpec.parse(text)
    except ValueError:
        return []
    return [f"queries.encoder={text}"]
