"""Memories with decoded images: a generator, and latent codes with decoders."""

from __future__ import annotations

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from trainer.methods.families.distribution_matching import dm
from trainer.methods.method import Method
from trainer.methods.specs.decoded import AutoencoderStart, GeneratorSpec, LatentCodesSpec
from trainer.methods.specs.objectives.unrolled import InnerSgd, UnrolledSpec
from trainer.methods.specs.outer import Adam, Outer
from trainer.methods.specs.starts import NoiseStart

NARROW = NetworkSpec(filters=64)


def gtn() -> Method:
    """A generator of images that are used in order, with a learned size of each step."""
    return Method(
        name="gtn", citation="Such et al., Generative Teaching Networks (2020), with networks of one architecture",
        memory=GeneratorSpec(noise_size=128, channels=32, filters=128, most_rows=832), start=NoiseStart(),
        objective=UnrolledSpec(
            steps=64, window=64, rate=0.02, learn_rate=True, rate_per_step=True, order="sequence",
            optimiser=InnerSgd(momentum=0.5), rows_per_class=13, real_batch=512,
        ),
        outer=Outer(optimiser=Adam(), rate=0.02, decay="cosine", clip=2.0, steps=2_000),
        retraining=Retraining(
            network=NetworkSpec(), steps=64, learning_rate=0.02, momentum=0.5, rows_per_class=13, order="sequence"
        ),
    )  # fmt: skip


def gtn_small() -> Method:
    """`gtn` with a generator as large as one image per class, and shorter trainings of narrower networks."""
    inner = {"steps": 32, "rows_per_class": 2, "network": NARROW}
    return gtn().varied(
        "gtn-small", memory=GeneratorSpec(), objective=inner | {"window": 32, "real_batch": 256},
        outer={"rate": 0.01, "steps": 500}, retraining=inner,
    )  # fmt: skip


def kfs() -> Method:
    """Latent codes and decoders, both learned by distribution matching."""
    return dm().varied(
        "kfs", citation="Lee et al., Knowledge Factorization and Sharing (2022), from the text of the paper",
        memory=LatentCodesSpec(), start=AutoencoderStart(), objective={"rows_per_class": 64},
        outer=Outer(optimiser=Adam(), rate=0.01, steps=20_000),
    )  # fmt: skip


def kfs_small() -> Method:
    """`kfs` with narrower networks, fewer real pictures and fewer steps."""
    objective = {"network": NARROW, "real_per_class": 64, "rows_per_class": 16}
    return kfs().varied("kfs-small", objective=objective, outer={"decay": "cosine", "steps": 2_000})


def it_gan() -> Method:
    """Latent codes of a fixed decoder, learned by distribution matching: a toy version of the paper's GAN."""
    return kfs_small().varied(
        "it-gan", citation="Zhao and Bilen, Informative Training Samples with GAN (2022), by an autoencoder",
        memory=LatentCodesSpec(decoders=1, frozen=("decoders",)),
    )  # fmt: skip


METHODS = (gtn, gtn_small, kfs, kfs_small, it_gan)
