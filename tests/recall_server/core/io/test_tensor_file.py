"""Safetensors files of tensors and a text, the format of bundles, classifiers and checkpoints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from recall_server.core.io.tensor_file import (
    ELEMENT_BYTES,
    FileLimits,
    canonical_json,
    pack,
    parse_json,
    printable,
    read_bounded,
    unpack,
)

EVERY_TYPE = frozenset(ELEMENT_BYTES)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8]
)
def test_every_element_type_is_read_back(dtype: torch.dtype) -> None:
    tensor = torch.arange(6).view(2, 3).to(dtype)
    tensors, text = unpack(pack({"t": tensor}, key="k", text="hello"), key="k", dtypes=EVERY_TYPE)
    assert tensors["t"].dtype == dtype and torch.equal(tensors["t"], tensor)
    assert text == "hello"


def test_tensors_of_mixed_types_and_scalars_are_read_back() -> None:
    written = {
        "wide": torch.ones(3, dtype=torch.float64),
        "byte": torch.ones(1, dtype=torch.uint8),
        "one": torch.tensor(2.0),
    }
    tensors, _ = unpack(pack(written, key="k", text=""), key="k", dtypes=EVERY_TYPE)
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"wide": [1, 1, 1], "byte": [1], "one": 2}


def test_views_are_written_with_their_visible_values() -> None:
    whole = torch.arange(12.0).view(3, 4)
    tensors, _ = unpack(pack({"turned": whole.T, "part": whole[1]}, key="k", text=""), key="k")
    assert torch.equal(tensors["turned"], whole.T) and torch.equal(tensors["part"], whole[1])


def test_the_order_of_the_tensors_does_not_change_the_bytes() -> None:
    one, two = torch.ones(2), torch.zeros(3)
    assert pack({"a": one, "b": two}, key="k", text="t") == pack({"b": two, "a": one}, key="k", text="t")


def test_a_file_without_tensors_is_valid() -> None:
    assert unpack(pack({}, key="k", text="t"), key="k") == ({}, "t")


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="the metadata must hold exactly one text, 'memory_bundle'"):
        unpack(pack({}, key="fresh_classifier", text="t"), key="memory_bundle")


def test_types_that_were_not_asked_for_are_refused() -> None:
    with pytest.raises(ValueError, match="'t' is of type I64, not one of BF16, F16, F32"):
        unpack(pack({"t": torch.zeros(1, dtype=torch.int64)}, key="k", text=""), key="k")


def test_a_file_may_be_as_large_as_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bounded(tmp_path / "file", 5) == b"12345"
    with pytest.raises(ValueError, match="the file is larger than 4 bytes"):
        read_bounded(tmp_path / "file", 4)
    data = pack({"t": torch.ones(3)}, key="k", text="")
    assert unpack(data, key="k", limits=FileLimits(file_bytes=len(data)))[0].keys() == {"t"}
    with pytest.raises(ValueError, match="the file is larger than"):
        unpack(data, key="k", limits=FileLimits(file_bytes=len(data) - 1))


@pytest.mark.parametrize("value", [{"b": [1, 1.0, True, None], "a": {"ü": "\n"}}, [], "text", 0.1])
def test_canonical_json_is_read_back_as_the_same_value(value: Any) -> None:
    assert parse_json(canonical_json(value)) == value


def test_canonical_json_is_sorted_and_has_no_white_space() -> None:
    assert canonical_json({"b": [1, 2], "a": "ü"}) == '{"a":"ü","b":[1,2]}'


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '[{"a":{"b":1,"b":1}}]', "NaN", "[-Infinity]", '"\\ud800"', "{", ""])
def test_ambiguous_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"appears twice|is not a JSON number|half of a surrogate|this is not JSON"):
        parse_json(text)


def test_text_from_a_file_is_shown_on_one_short_line() -> None:
    assert printable("bear\nERROR\x1b[31m") == "bear?ERROR?[31m"
    assert printable("a" * 1000) == "a" * 200 + "..."


def test_a_duplicate_key_is_found_quickly_among_a_hundred_thousand() -> None:
    text = "{" + ",".join(f'"{index}":0' for index in [*range(100_000), 99_999]) + "}"
    began = time.monotonic()
    with pytest.raises(ValueError, match="the key '99999' appears twice"):
        parse_json(text)
    assert time.monotonic() - began < 5
