"""A program of somebody who uses the client, its whole surface, under the strictest checks there are. Never run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import assert_type

import numpy
from numpy.typing import NDArray
from PIL import Image

from recall_client import (
    AmbiguousLabel,
    AsyncClassifier,
    AsyncRecallClient,
    Bases,
    Bundle,
    Classifier,
    ClassifierState,
    Event,
    LocalClassifier,
    Overloaded,
    Picture,
    Prediction,
    Problem,
    Quality,
    RecallClient,
    Recalled,
    RecalledArrays,
    RecallError,
    ServerInfo,
    Similarity,
    TrainingFailed,
    UnknownLabel,
    class_folders,
)


def watch(state: ClassifierState) -> None:
    if state.progress is not None:
        assert_type(state.progress.loss, float | None)


def memories(client: RecallClient) -> None:
    assert_type(client.info(), ServerInfo)
    assert_type(client.info().limits["pictures"], float)
    assert_type(client.bundles(), list[Bundle])
    assert_type(client.bundle("digits").dataset_bytes, int | None)
    assert_type([each.mean for each in client.bundle("digits").accuracy], list[float])
    assert_type(client.bundle_card("digits"), str)
    assert_type(client.bases("digits"), Bases)
    assert_type(client.bases("digits").bases[0], Picture)
    assert_type(client.bases_sheet("digits"), Picture)
    assert_type(client.similarity("digits", ["3", "8"]), Similarity)
    assert_type(client.labels(), list[str])


def recalls(client: RecallClient, photo: Image.Image, array: NDArray[numpy.uint8]) -> None:
    recalled = client.recall(["Sneaker", "Bag"], per_label="all", seed=1, bundle="fashion-mnist")
    assert_type(recalled, Recalled)
    assert_type(recalled.recalled[0].images, tuple[Picture, ...])
    client.recall([{"Sneaker": 0.5, "Bag": 0.5}])
    client.recall([[0.5, 0.5], [1.0, 0.0]])
    client.recall(numpy.eye(2))
    client.recall({"mine": [photo, "1.jpg"], "yours": [b"...", Path("2.jpg"), array]})
    arrays = client.recall_arrays(["Sneaker"], per_label=3)
    assert_type(arrays, RecalledArrays)
    assert_type(arrays.images, NDArray[numpy.float32])
    assert_type(arrays.features(), NDArray[numpy.float32])
    assert_type(arrays.classes(), NDArray[numpy.intp])
    assert_type(arrays.save("recalled.npz"), Path)
    assert_type(client.contact_sheet(["Sneaker"]).to_numpy(), NDArray[numpy.uint8])


def train(client: RecallClient, pictures: Sequence[Path]) -> LocalClassifier:
    classifier = client.train(class_folders("pets"), seed=3, idempotency_key="tuesday")
    assert_type(classifier.wait(None, progress=True, on_progress=watch), Classifier)
    for event in classifier.events(after=3):
        assert_type(event, Event)
    assert_type(classifier.quality, Quality | None)
    assert_type(classifier.predict(pictures), list[Prediction])
    assert_type(classifier.predict(numpy.zeros((3, 28, 28)))[0].probabilities["cat"], float)
    assert_type(classifier.download("pets.safetensors"), Path)
    classifier.download("pets", file_format="onnx")
    assert_type(classifier.card(), str)
    assert_type(classifier.refresh().cancel().status, str)
    assert_type(client.classifiers(limit=None), list[Classifier])
    client.classifier(classifier.id).delete()
    local = classifier.local()
    assert_type(local.predict_arrays(numpy.zeros((1, 1, 28, 28), dtype=numpy.float32)), NDArray[numpy.float32])
    assert_type(local.labels, tuple[str, ...])
    return LocalClassifier.load("pets.onnx")


def careful() -> str:
    with RecallClient("http://127.0.0.1:8000", api_key="k", timeout=5, retries=0, headers={"X-Team": "a"}) as client:
        try:
            return client.train(["cat", "dog"]).wait(10).id
        except UnknownLabel as error:
            return error.suggestions[0]
        except AmbiguousLabel as error:
            return error.candidates[0]
        except Overloaded as error:
            return f"in {error.retry_after or 1:.0f} s"
        except Problem as error:
            return f"{error.status} {error.parameter} {error.document.title}"
        except (TrainingFailed, TimeoutError, RecallError) as error:
            return str(error)


async def in_an_event_loop() -> None:
    async with AsyncRecallClient(api_key=None) as client:
        classifier = await client.train({"mine": ["1.jpg"], "yours": ["2.jpg"]})
        assert_type(await classifier.wait(on_progress=watch), AsyncClassifier)
        async with aclosing(classifier.events()) as events:
            async for event in events:
                assert_type(event, Event)
        assert_type(await classifier.predict(["3.jpg"]), list[Prediction])
        assert_type(await classifier.local(), LocalClassifier)
        assert_type(await client.recall_arrays(["Sneaker"]), RecalledArrays)
        assert_type(await client.classifiers(), list[AsyncClassifier])
        assert_type(await client.similarity("digits"), Similarity)
