"""Memories that decode their images from codes or bases. Codes are stored, or computed from noise and labels."""

from recall_server.core.memory.decoded.decoders import Decoders, DecoderShape, code_size, initial_decoders
from recall_server.core.memory.decoded.generator import ImageGenerator
from recall_server.core.memory.decoded.hallucinators import Hallucinators
from recall_server.core.memory.decoded.latent_codes import LatentCodes

__all__ = [
    "DecoderShape",
    "Decoders",
    "Hallucinators",
    "ImageGenerator",
    "LatentCodes",
    "code_size",
    "initial_decoders",
]
