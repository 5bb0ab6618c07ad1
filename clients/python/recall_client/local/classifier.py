"""A downloaded classifier in this process: onnxruntime, and no server. Needs NumPy, Pillow and onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from recall_client.errors import UnreadableClassifier
from recall_client.local.preparation import prepared
from recall_client.messages.models import ImageShape, Prediction
from recall_client.pictures.uploads import Pictures, batches

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

_LABELS = TypeAdapter(tuple[str, ...])
_INPUT, _OUTPUT = "images", "probabilities"


class LocalClassifier:
    """A classifier from its ONNX file: what `Classifier.download` wrote, or `Classifier.local` brought.

        classifier = LocalClassifier.load("sneaker-or-bag.onnx")
        print(classifier.predict(["photo.jpg"])[0].label)

    `labels` are in the order of its columns, `image` is what it looks at, `metadata` says what it was trained from. It
    may be shared between threads. Pictures are prepared as the server prepares them, so that it says the same.
    """

    def __init__(self, model: bytes, *, name: str = "the model") -> None:
        """`name` is what messages call it. Raises UnreadableClassifier, or ImportError without onnxruntime."""
        runtime = require_runtime()
        try:
            self._session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime raises half a dozen kinds, none of which it exports
            raise UnreadableClassifier(f"{name} is no ONNX model that can be run: {error}") from error
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        try:
            self.labels: tuple[str, ...] = _LABELS.validate_json(self.metadata.get("labels", ""))
            self.image = _image_shape(self._session)
        except ValidationError as error:
            raise UnreadableClassifier(f"{name} is an ONNX model, but no classifier of a recall server") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LocalClassifier:
        """Read an ONNX file. Raises UnreadableClassifier, or OSError where it cannot be read."""
        return cls(Path(path).read_bytes(), name=Path(path).name)

    def __repr__(self) -> str:
        return f"LocalClassifier(labels={list(self.labels)})"

    def predict(self, pictures: Pictures) -> list[Prediction]:
        """What it says of each picture, in the order given. Raises ValueError for bytes that are no picture."""
        predictions: list[Prediction] = []
        for batch in batches(pictures, of="images"):
            rows = self.predict_arrays(prepared(batch, self.image)).tolist()
            predictions += [_prediction(self.labels, row) for row in rows]
        return predictions

    def predict_arrays(self, images: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
        """Images [N, channels, height, width] of floats in 0 to 1 -> probabilities [N, k], a column for each label.

        Raises ValueError for another shape.
        """
        import numpy

        wanted = (self.image.channels, self.image.height, self.image.width)
        if images.ndim != 4 or images.shape[1:] != wanted:
            raise ValueError(f"images must be [N, {', '.join(map(str, wanted))}], not {list(images.shape)}")
        (probabilities,) = self._session.run([_OUTPUT], {_INPUT: images.astype(numpy.float32, copy=False)})
        return numpy.asarray(probabilities, dtype=numpy.float32)


def require_runtime() -> Any:
    """onnxruntime. Raises ImportError, with what to install, before anything is asked of a server."""
    try:
        import numpy  # noqa: F401
        import onnxruntime
        from PIL import Image  # noqa: F401
    except ImportError as error:
        raise ImportError("to predict locally: pip install 'recall-client[local]'") from error
    return onnxruntime


def _image_shape(session: Any) -> ImageShape:
    """The channels, height and width that the model's one input wants. Raises pydantic's ValidationError."""
    shapes = {each.name: each.shape for each in session.get_inputs()}
    outputs = {each.name for each in session.get_outputs()}
    known = set(shapes) == {_INPUT} and len(shapes[_INPUT]) == 4 and _OUTPUT in outputs
    sizes = shapes[_INPUT][1:] if known else ()
    return ImageShape.model_validate(dict(zip(("channels", "height", "width"), sizes, strict=False)))


def _prediction(labels: Sequence[str], row: Sequence[float]) -> Prediction:
    probabilities = dict(zip(labels, row, strict=True))
    return Prediction(label=max(probabilities, key=probabilities.__getitem__), probabilities=probabilities)
