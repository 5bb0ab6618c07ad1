"""`LocalClassifier`, an ONNX classifier in this process. Needs NumPy, Pillow and onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from recall_client.errors import UnreadableClassifier
from recall_client.local.onnx_file import is_self_contained
from recall_client.local.preparation import prepared
from recall_client.messages.models import ImageShape, Prediction
from recall_client.pictures import Pictures, batches

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

_LABELS = TypeAdapter(tuple[str, ...])
_NO_TELEMETRY = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")  # a version of onnxruntime reads one of them
_INPUT, _OUTPUT, _FAMILIARITY = "images", "probabilities", "familiarity"
NONE_BELOW = 0.2  # familiarity of a picture of none of the classes, as on the server


class LocalClassifier:
    """A classifier from an ONNX file that `Classifier.download` wrote; it needs no server.

        classifier = LocalClassifier.load("sneaker-or-bag.onnx")
        print(classifier.predict(["photo.jpg"])[0].label)

    `labels` are the names of its classes, `image` is the shape of its input, and `metadata` says what it was trained
    from. Pictures are prepared as on the server, so that both predict the same. Safe to share between threads; a
    pickled classifier holds the whole model.
    """

    def __init__(self, model: bytes, *, name: str = "the model") -> None:
        """Load an ONNX model; `name` is what messages call it.

        Raises UnreadableClassifier for a file that is damaged, of another kind, or refers to other files, and
        ImportError that says what to install.
        """
        runtime = require_runtime()
        self._model, self._name = model, name
        self._session = _session(runtime, model, name)
        self._also = [each.name for each in self._session.get_outputs() if each.name == _FAMILIARITY]
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        try:
            self.labels: tuple[str, ...] = _LABELS.validate_json(self.metadata.get("labels", ""))
            self.image = _image_shape(self._session)
        except ValidationError as error:
            raise UnreadableClassifier(f"{name} is an ONNX model, but not a classifier of a recall server") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LocalClassifier:
        """Load an ONNX file. Raises as the constructor does, and OSError for a file that cannot be read."""
        return cls(Path(path).read_bytes(), name=Path(path).name)

    def __reduce__(self) -> tuple[Callable[[bytes], LocalClassifier], tuple[bytes]]:
        return partial(type(self), name=self._name), (self._model,)

    def __repr__(self) -> str:
        return f"LocalClassifier(labels={list(self.labels)})"

    def predict(self, pictures: Pictures, *, none_below: float = NONE_BELOW) -> list[Prediction]:
        """Return a prediction for each picture, in order. Raises ValueError for a file that is not a picture.

        A picture that is less familiar than `none_below` is `none_of_these`.
        """
        predictions: list[Prediction] = []
        for batch in batches(pictures, of="images"):
            probabilities, familiarity = self._run(prepared(batch, self.image))
            known = [None] * len(batch) if familiarity is None else familiarity[:, 0].tolist()
            rows = zip(probabilities.tolist(), known, strict=True)
            predictions += [_prediction(self.labels, row, familiar, none_below) for row, familiar in rows]
        return predictions

    def predict_arrays(self, images: NDArray[numpy.floating[Any]]) -> NDArray[numpy.float32]:
        """Return the probabilities [N, k] of images [N, channels, height, width], floats from 0 to 1.

        Raises ValueError for another shape, and for integers, whose range is unknown.
        """
        import numpy

        expected = (self.image.channels, self.image.height, self.image.width)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(f"images must be [N, {', '.join(map(str, expected))}], not {list(images.shape)}")
        if images.dtype.kind != "f":
            raise ValueError(f"images must be floats from 0 to 1, not {images.dtype}; uint8 pixels are divided by 255")
        return self._run(images.astype(numpy.float32, copy=False))[0]

    def _run(self, images: NDArray[numpy.float32]) -> tuple[NDArray[numpy.float32], NDArray[numpy.float32] | None]:
        """Return probabilities [N, k] and, where the model gives it, familiarity [N, 1]."""
        import numpy

        found = self._session.run([_OUTPUT, *self._also], {_INPUT: images})
        probabilities, *familiarity = (numpy.asarray(values, dtype=numpy.float32) for values in found)
        return probabilities, familiarity[0] if familiarity else None


def require_runtime() -> Any:
    """Return onnxruntime without its telemetry. Raises ImportError that says what to install."""
    for name in _NO_TELEMETRY:
        os.environ.setdefault(name, "1")
    try:
        import numpy  # noqa: F401
        import onnxruntime
        from PIL import Image  # noqa: F401
    except ImportError as error:
        raise ImportError("to predict in this process: pip install 'recall-client[local]'") from error
    return onnxruntime


def _session(runtime: Any, model: bytes, name: str) -> Any:
    try:
        self_contained = is_self_contained(model)
    except ValueError as error:
        raise UnreadableClassifier(f"{name} is not an ONNX model that can be run: {error}") from error
    if not self_contained:
        raise UnreadableClassifier(f"{name} keeps data in other files, which is refused: save it as one file")
    options = runtime.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ONNX")  # not guessed from the bytes
    try:
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises half a dozen kinds of error and exports none of them
        raise UnreadableClassifier(f"{name} is not an ONNX model that can be run: {error}") from error


def _image_shape(session: Any) -> ImageShape:
    """Return the shape of the model's only input. Raises pydantic's ValidationError for another interface."""
    shapes = {each.name: each.shape for each in session.get_inputs()}
    outputs = {each.name for each in session.get_outputs()}
    known = set(shapes) == {_INPUT} and len(shapes[_INPUT]) == 4 and _OUTPUT in outputs
    sizes = shapes[_INPUT][1:] if known else ()
    return ImageShape.model_validate(dict(zip(("channels", "height", "width"), sizes, strict=False)))


def _prediction(
    labels: Sequence[str], row: Sequence[float], familiarity: float | None, none_below: float
) -> Prediction:
    probabilities = dict(zip(labels, row, strict=True))
    return Prediction(
        label=max(probabilities, key=probabilities.__getitem__),
        probabilities=probabilities,
        familiarity=familiarity,
        none_of_these=None if familiarity is None else familiarity < none_below,
    )
