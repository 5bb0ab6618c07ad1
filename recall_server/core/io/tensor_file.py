"""One .safetensors file: named tensors and one text, read without trusting a byte of it.

The safetensors package reads and writes the tensors. Before it sees a file, this module checks what that format
leaves open (caps before anything is allocated, no key twice, exactly one metadata key, an allow-list of element
types) and where the tensors lie, so that every refusal is one sentence of our own that names the culprit. Nothing
here or anywhere in this project unpickles. Errors are ValueError; whoever reads a bundle, a classifier or a
checkpoint turns it into an error of that thing.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

ELEMENT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I8": 1, "U8": 1}  # as safetensors spells them
FLOATS = frozenset({"F32", "F16", "BF16"})
LENGTH_BYTES = 8  # the file opens with the length of its header, little-endian
MEBIBYTE = 2**20
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class FileLimits:
    """What a file may cost its reader; all three are checked before the memory is used.

    `file_bytes`: the whole file. `header_bytes`: names, shapes and the text. `numbers`: what may be stored, and how
    many numbers of full-size images answering one query may take.
    """

    file_bytes: int = 64 * MEBIBYTE
    header_bytes: int = 4 * MEBIBYTE
    numbers: int = 64_000_000


DEFAULT_LIMITS = FileLimits()


def pack(tensors: Mapping[str, Tensor], *, key: str, text: str) -> bytes:
    """A whole file as bytes, the same for the same content; `text` is stored under the metadata key `key`."""
    # Clones, because safetensors refuses tensors that share their storage.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    data: bytes = safetensors.torch.save(plain, metadata={key: text})
    return data


def unpack(
    data: bytes, *, key: str, limits: FileLimits = DEFAULT_LIMITS, dtypes: frozenset[str] = FLOATS
) -> tuple[dict[str, Tensor], str]:
    """The tensors, of their stored types, and the text that `pack` put together.

    `dtypes` are the element types to accept, from ELEMENT_BYTES. Raises ValueError for anything that is not exactly
    such a file.
    """
    if len(data) > limits.file_bytes:
        raise ValueError(f"the file is larger than {limits.file_bytes} bytes")
    header, body_bytes = _header(data, limits.header_bytes)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or set(metadata) != {key} or not isinstance(metadata[key], str):
        raise ValueError(f"the metadata must hold exactly one text, {key!r}")
    entries = [_Entry.parse(name, fields, dtypes) for name, fields in header.items()]
    numbers = sum(entry.numbers for entry in entries)
    if numbers > limits.numbers:
        raise ValueError(f"the tensors hold {numbers} numbers, more than {limits.numbers}")
    _check_layout(entries, body_bytes)
    try:
        return safetensors.torch.load(data), metadata[key]
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ValueError(f"the safetensors package refuses the file ({printable(str(error))})") from error


def read_bounded(path: str | os.PathLike[str], largest: int) -> bytes:
    """The bytes of an ordinary file; ValueError for a folder, a pipe, a device or more than `largest` bytes.

    Raises OSError as `open` does. The size is checked on what was opened, so a file that is swapped or grows between
    two looks at it cannot slip through.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # before opening, because opening a pipe waits for its writer
        raise ValueError("this is not an ordinary file")
    with open(path, "rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise ValueError(f"the file is larger than {largest} bytes")
    return data


def parse_json(text: str) -> Any:
    """JSON as its standard defines it: no key twice, no NaN or Infinity. Raises ValueError with one sentence."""
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
        if SURROGATE_ESCAPE.search(text):  # the only way to a surrogate, for `text` itself has none
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error}") from error
    except UnicodeEncodeError as error:
        raise ValueError("the JSON holds half of a surrogate pair, which is no character") from error
    return value


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value: sorted keys, no white space, characters as themselves."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def printable(text: str, longest: int = 200) -> str:
    """Text from an untrusted file, made fit for one line of a log: short and without control characters."""
    line = "".join(character if character.isprintable() else "?" for character in text[:longest])
    return line if len(text) <= longest else f"{line}..."


@dataclass(frozen=True)
class _Entry:
    """What the header says about one tensor."""

    name: str
    numbers: int
    begin: int
    end: int

    @classmethod
    def parse(cls, name: str, fields: Any, dtypes: frozenset[str]) -> _Entry:
        shown = repr(printable(name))
        if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"the header entry of {shown} must have dtype, shape and data_offsets")
        dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        if not isinstance(dtype, str) or dtype not in dtypes:
            allowed = ", ".join(sorted(dtypes))
            raise ValueError(f"the tensor {shown} is of type {printable(str(dtype))}, not one of {allowed}")
        if not _whole_numbers(shape, smallest=1):
            raise ValueError(f"the tensor {shown} must have a shape of whole numbers above zero")
        if not _whole_numbers(offsets, smallest=0) or len(offsets) != 2:
            raise ValueError(f"the tensor {shown} must have two offsets that are whole numbers")
        numbers = math.prod(shape)
        if offsets[1] - offsets[0] != numbers * ELEMENT_BYTES[dtype]:
            raise ValueError(f"the tensor {shown} needs {numbers * ELEMENT_BYTES[dtype]} bytes, not those of {offsets}")
        return cls(name=name, numbers=numbers, begin=offsets[0], end=offsets[1])


def _whole_numbers(values: Any, *, smallest: int) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= smallest for value in values)


def _check_layout(entries: list[_Entry], body_bytes: int) -> None:
    """The tensors follow each other without a gap or an overlap, from the first byte to the last."""
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.begin):
        if entry.begin != position:
            raise ValueError(f"the tensor {printable(entry.name)!r} begins at {entry.begin}, not at {position}")
        position = entry.end
    if position != body_bytes:
        raise ValueError(f"the tensors take {position} bytes, but {body_bytes} follow the header")


def _header(data: bytes, largest: int) -> tuple[dict[str, Any], int]:
    """The header, and how many bytes follow it."""
    if len(data) < LENGTH_BYTES:
        raise ValueError(f"a file of {len(data)} bytes is too short to be safetensors")
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if length > largest:
        raise ValueError(f"the header claims more than {largest} bytes")  # the number may be text of another file
    if length > len(data) - LENGTH_BYTES:
        raise ValueError(f"the header claims {length} bytes, but only {len(data) - LENGTH_BYTES} follow")
    try:
        header = parse_json(data[LENGTH_BYTES : LENGTH_BYTES + length].decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"the header cannot be read: {printable(str(error))}") from error
    if not isinstance(header, dict):
        raise ValueError("the header must be a JSON object")
    return header, len(data) - LENGTH_BYTES - length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {printable(twice)!r} appears twice")
    return result


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin so, by what follows."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
