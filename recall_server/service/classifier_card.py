"""The card of a trained classifier: its classes, its estimated accuracy, and how to use it and how not to."""

from __future__ import annotations

from collections.abc import Mapping

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.feature_classifier import FeatureClassifier
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.classifier.prototypes import PrototypeClassifier
from recall_server.core.reports.bundle_card import licence, schedule
from recall_server.core.reports.markdown import bullets, document, escape, escape_all, facts, percent, table
from recall_server.jobs.rows.records import ClassifierRecord

Classifier = FreshClassifier | FeatureClassifier | PrototypeClassifier

LIMITS = (
    "Pictures of anything else than its classes: it answers every picture with one of them.",
    "Pictures of another kind than those that its memory was made from, until you have tested it on some.",
    "Probabilities at face value: they are not calibrated, and 0.99 does not mean wrong once in a hundred.",
    "Decisions about people, their health, their safety or their rights.",
)
ONNX = """```python
import json
import numpy, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("classifier.onnx")
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
picture = Image.open("photo.png").convert("{mode}").resize(({width}, {height}))
pixels = numpy.asarray(picture, dtype=numpy.float32).reshape({height}, {width}, {channels}) / 255
(probabilities,) = session.run(["probabilities"], {{"images": pixels.transpose(2, 0, 1)[None]}})
print(labels[probabilities[0].argmax()])
```"""


def classifier_card(
    record: ClassifierRecord,
    classifier: Classifier,
    bundles: Mapping[str, MemoryBundle],
) -> str:
    """The card as a page of Markdown. `bundles` are those of its bundles that are still loaded, by name."""
    return document(
        f"Classifier of {len(record.labels)} classes",
        ("", [f"It tells apart: {escape_all(record.labels)}."]),
        ("What it was made from", [_origin(record, bundles)]),
        ("How good it is", _quality(record)),
        ("How it was trained", _making(record, classifier)),
        ("How to use it", _use(classifier)),
        ("What not to use it for", [bullets(LIMITS)]),
        ("Licence", _licences(record, bundles)),
    )


def _origin(record: ClassifierRecord, bundles: Mapping[str, MemoryBundle]) -> str:
    rows = [("classifier", f"`{record.id}`, {record.created_at:%Y-%m-%d}, seed {record.seed}")]
    for identity in record.bundles:
        rows += [("memory", escape(identity.name)), ("SHA-256 of the memory", f"`{identity.sha256}`")]
        if identity.name in bundles:
            rows.append(("data set of the memory", escape(bundles[identity.name].manifest.provenance.dataset)))
    rows.append(("asked by", "the names of its classes" if record.pictures is None else _pictures(record.pictures)))
    if record.file is not None:
        rows.append(("its file", f"{record.file.bytes:,} bytes, SHA-256 `{record.file.sha256}`"))
    return facts(rows)


def _pictures(counts: dict[str, int]) -> str:
    return "pictures: " + ", ".join(f"{count} of {escape(name)}" for name, count in counts.items())


def _quality(record: ClassifierRecord) -> list[str]:
    quality = record.quality
    notes = [escape(note) for note in record.notes]
    if quality is None:
        return notes or ["Nothing is known of that: test it on pictures of your own before you rely on it."]
    rows = [
        (escape(label), percent(accuracy), f"{quality.counts[label]:,}")
        for label, accuracy in quality.per_label.items()
    ]
    return [
        f"Likely right: **{percent(quality.accuracy)}**. {escape(quality.explanation)}",
        table(("class", "right", "estimated from pictures"), rows),
        *notes,
    ]


def _making(record: ClassifierRecord, classifier: Classifier) -> list[str]:
    if isinstance(classifier, FeatureClassifier):
        classifier = classifier.head
        if record.pictures is not None:
            return ["Its head follows from the pictures by a formula, without a training of several steps."]
    if isinstance(classifier, FreshClassifier):
        return [schedule(classifier.retraining), _training(record)]
    return ["It was not: a picture goes to the class whose mean is nearest in the space of the memory's query encoder."]


def _training(record: ClassifierRecord) -> str:
    spent = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in (record.stages or {}).items())
    return f"Where the time went: {spent}." if spent else "Where the time went is not known."


def _use(classifier: Classifier) -> list[str]:
    channels, height, width = classifier.image_shape
    said = (
        f"The ONNX file takes `images`, float32 [N, {channels}, {height}, {width}], 0 (black) to 1 (white)"
        f"{', red, green and blue' if channels == 3 else ''}; the preprocessing is inside. It gives `probabilities` "
        f"[N, {len(classifier.labels)}], whose columns are the classes in this order:"
    )
    code = ONNX.format(mode="L" if channels == 1 else "RGB", height=height, width=width, channels=channels)
    named = table(("column", "class"), ((str(column), escape(name)) for column, name in enumerate(classifier.labels)))
    return [said, named, "The server itself cuts pictures to these proportions around their centre first.", code]


def _licences(record: ClassifierRecord, bundles: Mapping[str, MemoryBundle]) -> list[str]:
    said = [licence(bundles[each.name].manifest) for each in record.bundles if each.name in bundles]
    if len(said) < len(record.bundles):
        said.append(
            "A memory of it is not loaded here any more: its card, found by its SHA-256, names the terms of its data."
        )
    return said
