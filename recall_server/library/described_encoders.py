"""The encoder that is used where no loaded bundle brings one: a file in `encoders/` that describes itself."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from recall_server.core.encoders.description import EncoderDescription, description_of
from recall_server.core.encoders.onnx_check import check_onnx
from recall_server.core.encoders.query_encoder import MAX_FILE_BYTES, QueryEncoder, load_encoder
from recall_server.core.io.tensor_file import read_bounded
from recall_server.errors import InvalidBundle
from recall_server.library.folder import ENCODERS, LoadOptions

logger = logging.getLogger(__name__)
COLOURS = 3


def described_encoder(folder: Path, options: LoadOptions) -> QueryEncoder | None:
    """The first encoder in `folder/encoders` by name that describes itself and can be loaded; None if there is none.

    Files that fail are logged. With a public key, only encoders that a signed bundle names are loaded.
    """
    if options.public_key is not None:
        return None
    for path in sorted((folder / ENCODERS).glob("*.onnx")):
        try:
            data = read_bounded(path, MAX_FILE_BYTES)
            description = _description(data)
            if description is None:
                continue
            shape = (COLOURS, description.size, description.size)
            digest = hashlib.sha256(data).hexdigest()
            return load_encoder(path, digest, image_shape=shape, device=options.device)
        except (OSError, ValueError, InvalidBundle) as error:
            logger.error("the encoder %s is not used: %s", path.name, error)
    return None


def _description(data: bytes) -> EncoderDescription | None:
    return description_of({entry.key: entry.value for entry in check_onnx(data).metadata_props})
