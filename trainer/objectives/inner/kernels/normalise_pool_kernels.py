"""The kernels of `normalise_pool.py`: norm, ReLU and pooling of channels-last images, forward and backward.

A program processes BLOCK_C channels of one image in two passes over its pixels: the first computes sums, the second
results. The second pass finds its data in the cache. Each position in a block has its own partial sum, and they are
added up once at the end, since a sum across threads costs more than all arithmetic on a pixel. A window is the four
pixels, numbered 0 to 3, that one pooled pixel is the mean of. Names are those of `blocks.py`; `tangent` adds
derivatives along a direction. Arithmetic is in the precision of scale and shift, whatever the precision of the images.
"""

# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"
# Triton parses these functions itself; their types are those of the arguments of a call.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_window(pointer, rows, columns, channels, mask, width, count, corner: tl.constexpr, of: tl.constexpr):
    """Return [BLOCK_P, BLOCK_C] pixels of one image: pixel `corner`, 0 to 3, of every window, in the type `of`."""
    pixel = (2 * rows + corner // 2) * width + 2 * columns + corner % 2
    return tl.load(pointer + pixel[:, None] * count + channels[None, :], mask=mask, other=0.0).to(of)


@triton.jit
def store_window(pointer, values, rows, columns, channels, mask, width, count, corner: tl.constexpr):
    pixel = (2 * rows + corner // 2) * width + 2 * columns + corner % 2
    tl.store(pointer + pixel[:, None] * count + channels[None, :], values, mask=mask)


@triton.jit
def forward_kernel(
    a, a_dot, more, scale, shift, scale_dot, shift_dot,
    y, y_dot, mean, rstd, mean_dot, slope,
    height, width, count, epsilon,
    tangent: tl.constexpr, summed: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write y, mean and rstd; with `tangent` y_dot, mean_dot and slope; with `summed` a_dot becomes a_dot + more."""
    of = scale.dtype.element_ty
    image = tl.program_id(0).to(tl.int64)
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channels < count
    half, windows = width // 2, (height // 2) * (width // 2)
    a += image * height * width * count
    y += image * windows * count
    # Sums of differences from the first pixel lose no precision if the mean of a channel is far from zero.
    first = tl.load(a + channels, mask=inside, other=0.0).to(of)
    totals = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)
    squares = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)
    first_dot = tl.zeros([BLOCK_C], dtype=of)
    totals_dot = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)
    products = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)
    if tangent:
        a_dot += image * height * width * count
        y_dot += image * windows * count
        first_dot = tl.load(a_dot + channels, mask=inside, other=0.0).to(of)
        if summed:
            more += image * height * width * count
            first_dot += tl.load(more + channels, mask=inside, other=0.0).to(of)
    for start in range(0, windows, BLOCK_P):
        window = start + tl.arange(0, BLOCK_P)
        rows, columns = window // half, window % half
        mask = (window < windows)[:, None] & inside[None, :]
        for corner in tl.static_range(4):
            part = load_window(a, rows, columns, channels, mask, width, count, corner, of) - first[None, :]
            part = tl.where(mask, part, 0.0)
            totals += part
            squares += part * part
            if tangent:
                dot = load_window(a_dot, rows, columns, channels, mask, width, count, corner, of)
                if summed:
                    dot += load_window(more, rows, columns, channels, mask, width, count, corner, of)
                dot = tl.where(mask, dot - first_dot[None, :], 0.0)
                totals_dot += dot
                products += part * dot
    share = 1.0 / (height * width).to(of)
    beyond = tl.sum(totals, axis=0) * share
    middle = first + beyond
    variance = tl.sum(squares, axis=0) * share - beyond * beyond
    inverse = 1.0 / tl.sqrt(tl.maximum(variance, 0.0) + epsilon)
    inverse += middle - middle  # maximum drops NaN; this restores it
    tl.store(mean + image * count + channels, middle, mask=inside)
    tl.store(rstd + image * count + channels, inverse, mask=inside)
    s = tl.load(scale + channels, mask=inside, other=0.0)
    b = tl.load(shift + channels, mask=inside, other=0.0)
    middle_dot = tl.sum(totals_dot, axis=0) * share
    inclined = inverse * (tl.sum(products, axis=0) * share - beyond * middle_dot)
    middle_dot += first_dot
    s_dot = tl.zeros([BLOCK_C], dtype=of)
    b_dot = tl.zeros([BLOCK_C], dtype=of)
    if tangent:
        tl.store(mean_dot + image * count + channels, middle_dot, mask=inside)
        tl.store(slope + image * count + channels, inclined, mask=inside)
        s_dot = tl.load(scale_dot + channels, mask=inside, other=0.0)
        b_dot = tl.load(shift_dot + channels, mask=inside, other=0.0)
    for start in range(0, windows, BLOCK_P):
        window = start + tl.arange(0, BLOCK_P)
        rows, columns = window // half, window % half
        mask = (window < windows)[:, None] & inside[None, :]
        pooled = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)
        pooled_dot = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)
        for corner in tl.static_range(4):
            part = load_window(a, rows, columns, channels, mask, width, count, corner, of)
            n = (part - middle[None, :]) * inverse[None, :]
            z = s[None, :] * n + b[None, :]
            pooled += tl.where(z <= 0, 0.0, z)
            if tangent:
                dot = load_window(a_dot, rows, columns, channels, mask, width, count, corner, of)
                if summed:
                    dot += load_window(more, rows, columns, channels, mask, width, count, corner, of)
                    store_window(a_dot, dot, rows, columns, channels, mask, width, count, corner)
                n_dot = inverse[None, :] * (dot - middle_dot[None, :] - n * inclined[None, :])
                z_dot = s_dot[None, :] * n + s[None, :] * n_dot + b_dot[None, :]
                pooled_dot += tl.where(z <= 0, 0.0, z_dot)
        place = window[:, None] * count + channels[None, :]
        tl.store(y + place, pooled * 0.25, mask=mask)
        if tangent:
            tl.store(y_dot + place, pooled_dot * 0.25, mask=mask)


@triton.jit
def backward_kernel(
    a, a_dot, mean, rstd, mean_dot, slope, scale, shift, scale_dot,
    gy, gy_dot, more, ga, ga_dot, for_scale, for_shift,
    height, width, count,
    tangent: tl.constexpr, summed: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Write ga, and each image's part of the gradients for scale and shift.

    With `tangent`, also write ga_dot, and the derivatives of these parts instead of the parts. The derivative of gy is
    gy_dot; with `summed`, gy_dot + more.
    """
    of = scale.dtype.element_ty
    image = tl.program_id(0).to(tl.int64)
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channels < count
    half, windows = width // 2, (height // 2) * (width // 2)
    place = image * count + channels
    s = tl.load(scale + channels, mask=inside, other=0.0)[None, :]
    b = tl.load(shift + channels, mask=inside, other=0.0)[None, :]
    middle = tl.load(mean + place, mask=inside, other=0.0)[None, :]
    inverse = tl.load(rstd + place, mask=inside, other=0.0)[None, :]
    a += image * height * width * count
    ga += image * height * width * count
    gy += image * windows * count
    s_dot = tl.zeros([1, BLOCK_C], dtype=of)
    middle_dot = tl.zeros([1, BLOCK_C], dtype=of)
    inclined = tl.zeros([1, BLOCK_C], dtype=of)
    if tangent:
        a_dot += image * height * width * count
        ga_dot += image * height * width * count
        gy_dot += image * windows * count
        s_dot = tl.load(scale_dot + channels, mask=inside, other=0.0)[None, :]
        middle_dot = tl.load(mean_dot + place, mask=inside, other=0.0)[None, :]
        inclined = tl.load(slope + place, mask=inside, other=0.0)[None, :]
        if summed:
            more += image * windows * count
    parts_g = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)  # of gz
    parts_gn = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)  # of gz n
    parts_d = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)  # of gz_dot
    parts_dn = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)  # of gz_dot n + gz n_dot
    for start in range(0, windows, BLOCK_P):
        window = start + tl.arange(0, BLOCK_P)
        rows, columns = window // half, window % half
        mask = (window < windows)[:, None] & inside[None, :]
        pooled = window[:, None] * count + channels[None, :]
        g = tl.load(gy + pooled, mask=mask, other=0.0).to(of) * 0.25
        d = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)
        if tangent:
            d = tl.load(gy_dot + pooled, mask=mask, other=0.0).to(of) * 0.25
            if summed:
                d += tl.load(more + pooled, mask=mask, other=0.0).to(of) * 0.25
        for corner in tl.static_range(4):
            n = (load_window(a, rows, columns, channels, mask, width, count, corner, of) - middle) * inverse
            dead = s * n + b <= 0
            gz = tl.where(dead, 0.0, g)
            parts_g += gz
            parts_gn += gz * n
            if tangent:
                dot = load_window(a_dot, rows, columns, channels, mask, width, count, corner, of)
                n_dot = inverse * (dot - middle_dot - n * inclined)
                gz_dot = tl.where(dead, 0.0, d)
                parts_d += gz_dot
                parts_dn += gz_dot * n + gz * n_dot
    sum_g, sum_gn = tl.sum(parts_g, axis=0), tl.sum(parts_gn, axis=0)
    sum_d, sum_dn = tl.sum(parts_d, axis=0), tl.sum(parts_dn, axis=0)
    if tangent:
        tl.store(for_scale + place, sum_dn, mask=inside)
        tl.store(for_shift + place, sum_d, mask=inside)
    else:
        tl.store(for_scale + place, sum_gn, mask=inside)
        tl.store(for_shift + place, sum_g, mask=inside)
    share = 1.0 / (height * width).to(of)
    mean_g, mean_gn = sum_g[None, :] * share, sum_gn[None, :] * share
    mean_d, mean_dn = sum_d[None, :] * share, sum_dn[None, :] * share
    for start in range(0, windows, BLOCK_P):
        window = start + tl.arange(0, BLOCK_P)
        rows, columns = window // half, window % half
        mask = (window < windows)[:, None] & inside[None, :]
        pooled = window[:, None] * count + channels[None, :]
        g = tl.load(gy + pooled, mask=mask, other=0.0).to(of) * 0.25
        d = tl.zeros([BLOCK_P, BLOCK_C], dtype=of)
        if tangent:
            d = tl.load(gy_dot + pooled, mask=mask, other=0.0).to(of) * 0.25
            if summed:
                d += tl.load(more + pooled, mask=mask, other=0.0).to(of) * 0.25
        for corner in tl.static_range(4):
            n = (load_window(a, rows, columns, channels, mask, width, count, corner, of) - middle) * inverse
            dead = s * n + b <= 0
            v = tl.where(dead, 0.0, g) - mean_g - n * mean_gn  # u = s v
            store_window(ga, inverse * s * v, rows, columns, channels, mask, width, count, corner)
            if tangent:
                dot = load_window(a_dot, rows, columns, channels, mask, width, count, corner, of)
                n_dot = inverse * (dot - middle_dot - n * inclined)
                v_dot = tl.where(dead, 0.0, d) - mean_d - n_dot * mean_gn - n * mean_dn
                u_dot = s_dot * v + s * v_dot
                derivative = inverse * (u_dot - inverse * inclined * s * v)
                store_window(ga_dot, derivative, rows, columns, channels, mask, width, count, corner)
