"""Small files that cost more than their size: pictures that take long to decode, and encoders."""

from __future__ import annotations

import io
import random

import onnx
from PIL import Image

START_OF_SCAN = b"\xff\xda"
HEAD = '<ir_version: 8, opset_import: ["": 17]>\ncolumns (float[N,1,8,8] images) => (float[N,3] queries)\n'


def progressive(scans: int, *, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan is repeated, so that the file has so many scans."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (10, 200, 30)).save(stream, format="JPEG", progressive=True, quality=50)
    data = stream.getvalue()
    last = data.rindex(START_OF_SCAN)
    body, scan = data[:last], data[last:-2]
    return body + scan * (scans - body.count(START_OF_SCAN)) + data[-2:]


def flat_webp(side: int) -> bytes:
    """A few hundred bytes of side * side pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), "white").save(stream, format="WEBP", lossless=True, method=0)
    return stream.getvalue()


def noise(chance: random.Random, side: int = 8) -> bytes:
    """A PNG of grey noise, another one at every call."""
    stream = io.BytesIO()
    Image.frombytes("L", (side, side), chance.randbytes(side * side)).save(stream, format="PNG")
    return stream.getvalue()


def hungry_encoder(numbers: int, repeats: int, *, constant: bool = False, bright: bool = False) -> bytes:
    """An encoder of pictures [N, 1, 8, 8] that computes `repeats` sines of a tensor of so many numbers.

    `constant`: of numbers that do not depend on the picture, which are computed when a session is created. `bright`:
    only for white pictures.
    """
    side = 1 << (numbers.bit_length() // 2)
    lines = [f"wide0 = Expand({'start' if constant else 'mean'}, size)"]
    lines += [f"wide{step + 1} = Sin(wide{step})" for step in range(repeats)]
    lines += [f"total = ReduceMean<keepdims=0>(wide{repeats})"]
    work = "\n".join(lines)
    if bright:
        work = (
            "brightest = ReduceMax<keepdims=0>(mean)\n is_bright = Greater(brightest, limit)\n"
            f"total = If(is_bright) <then_branch = heavy () => (float total) {{ {work} }},"
            " else_branch = light () => (float same) { same = Identity(brightest) }>"
        )
    body = f"""<int64[2] size = {{{side}, {numbers // side}}}, float[1,1] start = {{0.5}}, float limit = {{0.9}},
        int64[2] ends = {{0, 3}}, int64[1] zero = {{0}}, int64[1] three = {{3}}, int64[1] one = {{1}}>
    {{
        flat = Flatten<axis=1>(images)
        mean = ReduceMean<keepdims=1>(flat)
        {work}
        some = Slice(flat, zero, three, one)
        queries = Add(some, total)
    }}"""
    model = onnx.parser.parse_model(HEAD + body)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
