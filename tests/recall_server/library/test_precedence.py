"""A name that several bundles know is taken from one of them, by rules that anybody can foresee."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recall_server.core.bundle.manifest import MeasuredAccuracy
from recall_server.errors import AmbiguousLabel
from recall_server.library import Library, LoadedBundle
from recall_server.library.precedence import shared_space
from tests.recall_server.feature_examples import write_feature_artifacts
from tests.recall_server.serving_examples import label_bundle


def measured(mean: float) -> dict[str, Any]:
    row = MeasuredAccuracy(network="convnet", protocol="bundle", runs=1, mean=mean, spread=0.0, data="a test")
    return {"accuracy": (row,)}


def library_of(**bundles: dict[str, Any]) -> Library:
    made = {name: label_bundle(name, changed.pop("labels"), **changed) for name, changed in bundles.items()}
    return Library({name: LoadedBundle(bundle) for name, bundle in made.items()})


def chosen(library: Library, *names: str, **options: Any) -> list[str]:
    return [reference.qualified for reference in library.resolve(names, **options)]


def test_among_memories_with_equally_many_classes_the_more_accurate_is_chosen() -> None:
    good, better = measured(0.6) | {"labels": ("a", "b", "c")}, measured(0.7) | {"labels": ("a", "b", "x")}
    library = library_of(good=good, better=better)
    assert chosen(library, "a", "c") == ["better:a", "good:c"]
    assert chosen(library, "a", bundle="good") == ["good:a"]
    assert chosen(library, "good:a", "b") == ["good:a", "better:b"]


def test_among_equally_accurate_memories_the_newer_is_chosen() -> None:
    template = label_bundle("template", ("a", "b", "c")).manifest.provenance
    dates = {"older": "2026-11-01", "newer": "2026-11-20", "oldest": "2025-01-01"}
    library = library_of(
        **{
            name: {"labels": ("a", "b", "c"), "provenance": template.model_copy(update={"date": date})}
            for name, date in dates.items()
        }
    )
    (reference,) = library.resolve(["a"])
    assert (reference.loaded.name, reference.others) == ("newer", ("older", "oldest"))


def test_features_are_preferred_to_pixels_if_they_know_every_name(tmp_path: Path) -> None:
    folder = write_feature_artifacts(tmp_path, ("features", {"left": "a", "middle": "b"}))
    label_bundle("pixels", ("a", "b", "c"), **measured(0.99)).save(folder / "bundles" / "pixels.safetensors")
    library = Library.load(folder, device="cpu")
    assert chosen(library, "a", "b") == ["features:a", "features:b"]
    assert chosen(library, "a", "c") == ["pixels:a", "pixels:c"], "one space for the whole request"
    assert chosen(library, "features:a", "b") == ["features:a", "features:b"]
    assert chosen(library, "features:a", "c") == ["features:a", "pixels:c"], "no space has both"
    with pytest.raises(AmbiguousLabel, match="features:a, pixels:a"):
        library.resolve(["a"], strict=True)


def test_a_shared_space_knows_every_name() -> None:
    assert shared_space([{"features", "pixels"}, {"pixels"}]) == "pixels"
    assert shared_space([{"features", "pixels"}, {"features", "pixels"}]) == "features"
    assert shared_space([{"features"}, {"pixels"}]) is None
    assert shared_space([]) is None
