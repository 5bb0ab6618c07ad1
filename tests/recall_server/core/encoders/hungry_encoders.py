"""Valid encoders of a few kilobytes that take as much time or memory as their author likes."""

from __future__ import annotations

import onnx

HEAD = '<ir_version: 8, opset_import: ["": 17]>\ncolumns (float[N,1,8,8] images) => (float[N,3] queries)\n'


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
