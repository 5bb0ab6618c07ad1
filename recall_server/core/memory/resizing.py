"""Images that are stored smaller than they are recalled: sizes, and bilinear enlargement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn.functional import interpolate

Size = tuple[int | None, int | None]  # (height, width) of recalled images; None to keep the stored size


def check_size(name: str, stored: Sequence[int], size: Size) -> None:
    """Raise ValueError if items of this stored shape, called `name`, cannot be recalled at `size`."""
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
    """The shape of a recalled item with this stored shape."""
    height, width = size
    return tuple(stored) if height is None or width is None else (stored[0], height, width)


def enlarge(items: Tensor, size: Size) -> Tensor:
    """Items [n, *stored] at the recalled size, by bilinear interpolation with half-pixel centres."""
    height, width = size
    if height is None or width is None or tuple(items.shape[2:]) == (height, width):
        return items
    return interpolate(items, size=(height, width), mode="bilinear", align_corners=False)


def size_settings(size: Size) -> dict[str, int]:
    """The size as settings of a manifest."""
    height, width = size
    return {} if height is None or width is None else {"height": height, "width": width}


def size_of(settings: Mapping[str, int | float | str]) -> Size:
    """The inverse of `size_settings`. Raises ValueError for values that are no integers."""
    height, width = (settings.get(name) for name in ("height", "width"))
    for value in (height, width):
        if value is not None and type(value) is not int:
            raise ValueError(f"height and width must be whole numbers, not {value!r}")
    return height, width  # type: ignore[return-value]
