"""Stored images that are smaller than recalled ones: their size, and bilinear enlargement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn.functional import interpolate

Size = tuple[int | None, int | None]  # (height, width) of recalled images, None where they are as stored


def check_size(name: str, stored: Sequence[int], size: Size) -> None:
    """ValueError where items stored with this shape, called `name`, cannot be recalled at `size`."""
    height, width = size
    if (height is None) != (width is None):
        raise ValueError(f"{name} are enlarged to a height and a width; give both or neither")
    if height is None or width is None:
        return
    if len(stored) != 3:
        raise ValueError(f"{name} that are vectors have no height and width to be enlarged to")
    if height < stored[1] or width < stored[2]:
        raise ValueError(f"{name} of {stored[1]}x{stored[2]} are larger than the images of {height}x{width}")


def item_shape(stored: Sequence[int], size: Size) -> tuple[int, ...]:
    """The shape of a recalled item that is stored with this shape."""
    height, width = size
    return tuple(stored) if height is None or width is None else (stored[0], height, width)


def enlarge(items: Tensor, size: Size) -> Tensor:
    """Items [n, *stored] as they are recalled, by bilinear interpolation with half-pixel centres."""
    height, width = size
    if height is None or width is None or tuple(items.shape[2:]) == (height, width):
        return items
    return interpolate(items, size=(height, width), mode="bilinear", align_corners=False)


def size_settings(size: Size) -> dict[str, int]:
    """What a manifest says of the size."""
    height, width = size
    return {} if height is None or width is None else {"height": height, "width": width}


def size_of(settings: Mapping[str, int | float | str]) -> Size:
    """The inverse of `size_settings`; ValueError for what is not a whole number."""
    height, width = (settings.get(name) for name in ("height", "width"))
    for value in (height, width):
        if value is not None and type(value) is not int:
            raise ValueError(f"height and width must be whole numbers, not {value!r}")
    return height, width  # type: ignore[return-value]
