"""Safetensors files of named tensors and one text, read without trusting their content.

The safetensors package reads and writes the tensors. Before it sees a file, this module checks what the format leaves
open (size limits before anything is allocated, no duplicate keys, exactly one metadata key, an allow-list of element
types) and the layout of the tensors, so that every refusal is one sentence that names the cause. Nothing in this
project unpickles. Errors are ValueError; the readers of bundles, classifiers and checkpoints convert them.
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

ELEMENT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I8": 1, "U8": 1}  # by safetensors' names
FLOATS = frozenset({"F32", "F16", "BF16"})
LENGTH_BYTES = 8  # a file begins with the length of its header, little-endian
MEBIBYTE = 2**20
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class FileLimits:
    """Limits on a file, checked before any memory is allocated.

    `file_bytes`: the size of the file. `header_bytes`: names, shapes and the text. `numbers`: the numbers stored, and
    the numbers that the full-size images recalled for one query may take.
    """

    file_bytes: int = 64 * MEBIBYTE
    header_bytes: int = 4 * MEBIBYTE
    numbers: int = 64_000_000


DEFAULT_LIMITS = FileLimits()


def pack(tensors: Mapping[str, Tensor], *, key: str, text: str) -> bytes:
    """The bytes of a file, the same for the same content; `text` is stored under the metadata key `key`."""
    # Clones, because safetensors refuses tensors that share storage.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    data: bytes = safetensors.torch.save(plain, metadata={key: text})
    return data


def unpack(
    data: bytes, *, key: str, limits: FileLimits = DEFAULT_LIMITS, dtypes: frozenset[str] = FLOATS
) -> tuple[dict[str, Tensor], str]:
    """The tensors, with their stored dtypes, and the text of a file that `pack` wrote.

    `dtypes` are the accepted element types, from ELEMENT_BYTES. Raises ValueError for anything but a valid file.
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
    """The bytes of a regular file.

    Raises ValueError for a folder, a pipe, a device or more than `largest` bytes, and OSError as `open` does. The size
    is checked on the open file, so a file that is replaced or grows in the meantime is refused too.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # before opening, because opening a pipe waits for a writer
        raise ValueError("this is not an ordinary file")
    with open(path, "rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise ValueError(f"the file is larger than {largest} bytes")
    return data


def parse_json(text: str) -> Any:
    """Parse strict JSON: no duplicate keys, no NaN or Infinity. Raises ValueError."""
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
    """The canonical JSON text of a value: sorted keys, no white space, no escaped characters beyond the necessary."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def printable(text: str, longest: int = 200) -> str:
    """Untrusted text, shortened to `longest` characters and without control characters, for one line of a log."""
    line = "".join(character if character.isprintable() else "?" for character in text[:longest])
    return line if len(text) <= longest else f"{line}..."


@dataclass(frozen=True)
class _Entry:
    """The header's entry for one tensor."""

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
    """Raise ValueError unless the tensors fill the body without gaps or overlaps."""
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.begin):
        if entry.begin != position:
            raise ValueError(f"the tensor {printable(entry.name)!r} begins at {entry.begin}, not at {position}")
        position = entry.end
    if position != body_bytes:
        raise ValueError(f"the tensors take {position} bytes, but {body_bytes} follow the header")


def _header(data: bytes, largest: int) -> tuple[dict[str, Any], int]:
    """The header, and the number of bytes after it."""
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
    """The tensors whose names start with `prefix`, by the rest of the name."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
