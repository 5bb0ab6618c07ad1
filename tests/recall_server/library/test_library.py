"""Which bundles are served, and what a label means over all of them."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.errors import AmbiguousLabel, InvalidRequest, NotFound, UnknownLabel, UnsupportedQuery
from recall_server.library import Library
from tests.recall_server.serving_examples import column_encoder, image_bundle, label_bundle

HOSTILE = Path(__file__).parents[2] / "hostile_bundles"


def resolved(library: Library, *labels: str, bundle: str | None = None) -> list[str]:
    return [reference.qualified for reference in library.resolve(labels, bundle=bundle)]


def test_labels_are_found_in_the_bundle_that_knows_them(library: Library) -> None:
    assert list(library.bundles) == ["columns", "columns-images", "places"]
    assert library.rejected == ()
    assert resolved(library, "far", "left") == ["places:far", "columns:left"]


def test_a_label_of_two_bundles_means_the_more_accurate_one_unless_strict(library: Library) -> None:
    (chosen,) = library.resolve(["middle"])
    assert (chosen.qualified, chosen.others) == ("places:middle", ("columns",)), "columns was never measured"
    with pytest.raises(AmbiguousLabel, match="say which: places:middle, columns:middle") as caught:
        library.resolve(["middle"], strict=True)
    assert caught.value.candidates == ["places:middle", "columns:middle"]
    assert resolved(library, "places:middle", "columns:middle") == ["places:middle", "columns:middle"]
    assert resolved(library, "middle", bundle="places") == ["places:middle"]


def test_case_and_surrounding_spaces_are_ignored(library: Library) -> None:
    assert resolved(library, "LEFT", " right ", "places: Middle") == ["columns:left", "columns:right", "places:middle"]


def test_exact_case_takes_precedence(tmp_path: Path) -> None:
    label_bundle("both", ("Bag", "bag", "BAGS")).save(tmp_path / "bundles" / "both.safetensors")
    library = Library.load(tmp_path)
    assert resolved(library, "Bag", "bag", "bags") == ["both:Bag", "both:bag", "both:BAGS"]
    with pytest.raises(AmbiguousLabel, match="both:Bag, both:bag"):
        library.resolve(["BAG"])


def test_an_unknown_label_names_the_nearest_known_ones(library: Library) -> None:
    with pytest.raises(UnknownLabel, match="did you mean 'right'") as caught:
        library.resolve(["left", "Rihgt"])
    assert (caught.value.label, caught.value.suggestions) == ("Rihgt", ["right"])
    assert caught.value.parameter == "labels"
    with pytest.raises(UnknownLabel, match="GET /bundles lists all"):
        library.resolve(["zebra crossing"])
    with pytest.raises(UnknownLabel) as caught:
        library.resolve(["rihgt"], bundle="places")
    assert caught.value.suggestions == []


@pytest.mark.parametrize(
    ("labels", "bundle", "sentence"),
    [
        ([], None, "one label or more is needed"),
        (["left", ""], None, "a label is empty"),
        (["columns:"], None, "a label is empty"),
        (["left", "left"], None, "the label 'left' is named twice"),
        (["left", "columns:LEFT"], None, "the label 'left' is named twice"),
        (["x" * 401], None, "a label has more than 400 characters"),
        (["left"], "nowhere", "no bundle is named 'nowhere'; loaded are 'columns', 'columns-images', 'places'"),
        (["nowhere:left"], None, "no bundle is named 'nowhere'"),
        (["columns:left"], "places", "the label 'columns:left' is not in the bundle 'places'"),
    ],
)
def test_invalid_names_are_refused(library: Library, labels: list[str], bundle: str | None, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        library.resolve(labels, bundle=bundle)


def test_labels_of_a_memory_addressed_by_pictures_are_not_found(library: Library) -> None:
    with pytest.raises(UnknownLabel):
        library.resolve(["unseen class"])
    with pytest.raises(UnsupportedQuery, match="'columns-images' is addressed by pictures, not by labels"):
        library.resolve(["columns-images:unseen class"])


def test_pictures_go_to_the_only_bundle_with_an_encoder(library: Library) -> None:
    loaded, encoder = library.image_addressable(None)
    assert loaded.name == "columns-images"
    assert encoder is loaded.encoder
    assert library.image_addressable("columns-images")[0] is loaded
    with pytest.raises(UnsupportedQuery, match="'columns' is addressed by labels.* take pictures: 'columns-images'"):
        library.image_addressable("columns")


def test_with_several_encoders_the_bundle_has_to_be_named(library: Library) -> None:
    (loaded,) = [loaded for loaded in library.bundles.values() if loaded.encoder]
    several = Library({"one": loaded, "two": loaded})
    with pytest.raises(InvalidRequest, match="several bundles take pictures; say which: 'columns-images'"):
        several.image_addressable(None)


def test_without_an_encoder_pictures_are_refused(library: Library) -> None:
    with pytest.raises(UnsupportedQuery, match="send labels instead"):
        Library({"columns": library.get("columns")}).image_addressable(None)


def test_the_only_bundle_need_not_be_named(library: Library) -> None:
    columns = library.get("columns")
    assert Library({"columns": columns}).only(None) is columns
    assert library.only("columns") is columns
    with pytest.raises(InvalidRequest, match="say which bundle: 'columns'"):
        library.only(None)
    with pytest.raises(InvalidRequest, match="loaded are none"):
        Library({}).only("columns")
    with pytest.raises(NotFound):
        library.get("nowhere")


def test_every_hostile_bundle_is_skipped_and_the_good_one_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(HOSTILE, tmp_path / "bundles", ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
    hostile = {path.name for path in (tmp_path / "bundles").iterdir()}
    assert len(hostile) > 20
    label_bundle("good", ("a", "b", "c")).save(tmp_path / "bundles" / "good.safetensors")
    with caplog.at_level(logging.ERROR):
        library = Library.load(tmp_path)
    assert list(library.bundles) == ["good"]
    assert {rejection.file for rejection in library.rejected} == hostile
    for rejection in library.rejected:
        assert rejection.reason in caplog.text
        assert str(tmp_path) not in rejection.reason


def save_twin(folder: Path, file: str, labels: tuple[str, ...] = ("a", "b", "c")) -> None:
    label_bundle("twin", labels).save(folder / "bundles" / f"{file}.safetensors")


def test_a_second_bundle_of_the_same_name_is_rejected(tmp_path: Path) -> None:
    for file in ("first", "second"):
        save_twin(tmp_path, file)
    library = Library.load(tmp_path)
    assert list(library.bundles) == ["twin"]
    assert [rejection.file for rejection in library.rejected] == ["second.safetensors"]
    assert "it holds a bundle named 'twin', which is served from first.safetensors" in library.rejected[0].reason


@pytest.mark.parametrize("copy", ["a twin", "twin backup", "twin-2026", "twin.old"])
def test_a_copy_never_displaces_the_file_named_after_the_bundle(tmp_path: Path, copy: str) -> None:
    save_twin(tmp_path, "twin")
    first = Library.load(tmp_path)
    save_twin(tmp_path, copy)
    save_twin(tmp_path, "twin", ("a", "b", "new"))
    for library in (Library.load(tmp_path), Library.load(tmp_path, previous=first)):
        assert library.get("twin").bundle.labels == ("a", "b", "new")
        assert [rejection.file for rejection in library.rejected] == [f"{copy}.safetensors"]


def test_the_served_one_of_two_copies_stays(tmp_path: Path) -> None:
    save_twin(tmp_path, "second")
    first = Library.load(tmp_path)
    save_twin(tmp_path, "first", ("x", "y", "z"))
    library = Library.load(tmp_path, previous=first)
    assert library.get("twin").bundle.labels == ("a", "b", "c")
    (tmp_path / "bundles" / "second.safetensors").unlink()
    assert Library.load(tmp_path, previous=library).get("twin").bundle.labels == ("x", "y", "z")


@pytest.mark.parametrize("spelling", ["M\u00fcller", "Mu\u0308ller", "M\u00dcLLER", "mu\u0308LLER"])
def test_a_label_is_found_in_composed_and_decomposed_unicode(tmp_path: Path, spelling: str) -> None:
    label_bundle("people", ("Mu\u0308ller", "Meier", "Huber")).save(tmp_path / "bundles" / "people.safetensors")
    assert resolved(Library.load(tmp_path), spelling) == ["people:M\u00fcller"]


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        (None, "the query encoder columns.onnx is missing"),
        (b"other bytes", "has sha256"),
        (column_encoder(side=6), r"turns \[1, 6, 6\] into 3 numbers, but the memory has \[1, 8, 8\] and 3"),
    ],
)
def test_a_bundle_without_its_own_encoder_is_rejected(tmp_path: Path, stored: bytes | None, sentence: str) -> None:
    named = column_encoder() if stored is None or stored == b"other bytes" else stored
    image_bundle("pictures", named).save(tmp_path / "bundles" / "pictures.safetensors")
    (tmp_path / "encoders").mkdir()
    if stored is not None:
        (tmp_path / "encoders" / "columns.onnx").write_bytes(stored)
    library = Library.load(tmp_path)
    assert library.bundles == {}
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(library.rejected[0].reason)


def test_a_bundle_is_rejected_if_classifiers_cannot_start_from_its_encoder(tmp_path: Path) -> None:
    stored = column_encoder()  # which is no network of this project's
    bundle = image_bundle("pictures", stored)
    warm = bundle.manifest.retraining.model_copy(update={"initial": "encoder"})
    manifest = bundle.manifest.model_copy(update={"retraining": warm})
    MemoryBundle(manifest, bundle.memory, bundle.preprocessing).save(tmp_path / "bundles" / "pictures.safetensors")
    (tmp_path / "encoders").mkdir()
    (tmp_path / "encoders" / "columns.onnx").write_bytes(stored)
    library = Library.load(tmp_path)
    assert library.bundles == {}
    assert library.rejected[0].reason == (
        "pictures.safetensors: its classifiers cannot begin with its encoder: the bundle's encoder has no "
        "block0.convolution.weight, but the network needs [8, 1, 3, 3]"
    )


def test_an_empty_or_missing_folder_is_an_empty_library(tmp_path: Path) -> None:
    assert Library.load(tmp_path / "nothing").bundles == {}


VEHICLES = {"Vehicles": ("left", "right"), "all": ("left", "middle", "right")}


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """A folder with the groups Vehicles and all in one bundle, and a label called vehicles in another."""
    for bundle in (
        label_bundle("columns", ("left", "middle", "right"), groups=VEHICLES),
        label_bundle("places", ("near", "middle", "vehicles")),
    ):
        bundle.save(tmp_path / "bundles" / f"{bundle.manifest.name}.safetensors")
    return tmp_path


def with_aliases(folder: Path, aliases: object) -> Library:
    (folder / "aliases.json").write_text(aliases if isinstance(aliases, str) else json.dumps(aliases))
    return Library.load(folder)


def test_a_byte_order_mark_before_the_aliases_is_ignored(grouped: Path) -> None:
    library = with_aliases(grouped, "\ufeff" + json.dumps({"mid": "middle"}))
    assert [each.file for each in library.rejected] == []


def test_the_name_of_a_group_stands_for_its_labels(grouped: Path) -> None:
    library = Library.load(grouped)
    assert resolved(library, "all") == ["columns:left", "columns:middle", "columns:right"]
    assert resolved(library, "columns:vehicles", "near") == ["columns:left", "columns:right", "places:near"]
    assert resolved(library, "vehicles") == ["places:vehicles"], "a label goes before a group"
    assert resolved(library, "vehicles", bundle="columns") == ["columns:left", "columns:right"]
    with pytest.raises(UnknownLabel, match="did you mean 'Vehicles'"):
        library.resolve(["Vehicels"], bundle="columns")


def test_a_label_requested_twice_is_returned_once(grouped: Path) -> None:
    library = Library.load(grouped)
    assert resolved(library, "right", "all") == ["columns:right", "columns:left", "columns:middle"]
    assert resolved(library, "columns:vehicles", "all") == ["columns:left", "columns:right", "columns:middle"]
    assert resolved(library, "all", "left") == ["columns:left", "columns:middle", "columns:right"]
    with pytest.raises(InvalidRequest, match="the label 'left' is named twice"):
        library.resolve(["all", "left", "LEFT"])


def test_a_group_of_two_bundles_means_one_of_them_unless_strict(grouped: Path) -> None:
    other = label_bundle("others", ("near", "far", "away"), groups={"all": ("near", "far")})
    other.save(grouped / "bundles" / "others.safetensors")
    library = Library.load(grouped)
    with pytest.raises(AmbiguousLabel, match="columns:all, others:all"):
        library.resolve(["all"], strict=True)
    assert resolved(library, "all") == ["columns:left", "columns:middle", "columns:right"], "the first by name"
    assert resolved(library, "others:all") == ["others:near", "others:far"]


def test_an_alias_stands_for_a_label_a_group_or_several(grouped: Path) -> None:
    aliases = {
        "gauche": "left",
        "both": ["places:middle", "RIGHT", "right"],
        "wheels": "columns:vehicles",
        "near": "left",
    }
    library = with_aliases(grouped, aliases)
    assert resolved(library, "Gauche", "both") == ["columns:left", "places:middle", "columns:right"]
    assert resolved(library, "wheels") == ["columns:left", "columns:right"]
    assert resolved(library, "near") == ["places:near"], "no alias changes what a memory says of itself"
    assert resolved(library, "columns:gauche") == ["columns:left"]
    with pytest.raises(UnknownLabel, match="did you mean 'gauche'"):
        library.resolve(["gauch"])
    with pytest.raises(
        InvalidRequest, match="'both' is an alias of 'places:middle', which the bundle 'columns' does not"
    ):
        library.resolve(["both"], bundle="columns")


def test_an_alias_of_unknown_labels_is_refused_when_used(grouped: Path) -> None:
    library = with_aliases(grouped, {"cat": "feline", "mid": "middle", "loop": "mid"})
    with pytest.raises(InvalidRequest, match="'cat' is an alias of 'feline', which no loaded bundle knows"):
        library.resolve(["cat"])
    assert resolved(library, "mid") == ["columns:middle"]
    with pytest.raises(InvalidRequest, match="'mid' is an alias of 'middle', but several bundles know"):
        library.resolve(["mid"], strict=True)
    with pytest.raises(InvalidRequest, match="'loop' is an alias of 'mid', which no loaded bundle knows"):
        library.resolve(["loop"])
    assert library.rejected == ()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "aliases.json cannot be read: this is not JSON"),
        ('{"a": "left", "a": "right"}', "aliases.json cannot be read: .*twice"),
        ("[]", "aliases.json must give labels to each of its names"),
        ({"a": 3}, "aliases.json must give labels to each of its names: a"),
        ({"a": []}, "aliases.json must give labels to each of its names: a"),
        ({"a,b": "left"}, "must not contain"),
        ({"a": "x" * 401}, "must give labels"),
    ],
)
def test_a_damaged_alias_file_is_logged_and_the_old_aliases_stay(
    grouped: Path, content: object, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = with_aliases(grouped, {"gauche": "left"})
    (grouped / "aliases.json").write_text(content if isinstance(content, str) else json.dumps(content))
    library = Library.load(grouped, previous=before)
    (rejection,) = library.rejected
    assert rejection.file == "aliases.json"
    assert re.search(sentence, rejection.reason)
    assert rejection.reason in caplog.text
    assert resolved(library, "gauche") == ["columns:left"]
    (grouped / "aliases.json").unlink()
    with pytest.raises(UnknownLabel):
        Library.load(grouped, previous=library).resolve(["gauche"])
