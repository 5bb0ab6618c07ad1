"""Memories whose images are stored smaller than they are recalled: sizes, and bilinear enlargement."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor
from torch.nn.functional import interpolate

from recall_server.core.memory.base import AbstractMemory, Setting

Size = tuple[int | None, int | None]  # (height, width) of recalled images; None to keep the stored size


class AbstractEnlarged(AbstractMemory):
    """Items are recalled at their stored size, or images are enlarged bilinearly to `height` x `width`, if given.

    Subclasses are frozen dataclasses with these fields.
    """

    height: int | None
    width: int | None

    @property
    @abstractmethod
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of a stored item."""

    @property
    def size(self) -> Size:
        return self.height, self.width

    @property
    def item_shape(self) -> tuple[int, ...]:
        stored = self.stored_shape
        return stored if self.height is None or self.width is None else (stored[0], self.height, self.width)

    def check_size(self, name: str) -> None:
        """Raise ValueError if stored items, called `name`, cannot be recalled at this size."""
        (height, width), stored = self.size, self.stored_shape
        if (height is None) != (width is None):
            raise ValueError(f"{name} are enlarged to a height and a width; give both or neither")
        if height is None or width is None:
            return
        if len(stored) != 3:
            raise ValueError(f"{name} that are vectors have no height and width to be enlarged to")
        if height < stored[1] or width < stored[2]:
            raise ValueError(f"{name} of {stored[1]}x{stored[2]} are larger than the images of {height}x{width}")

    def settings(self) -> dict[str, Setting]:
        return super().settings() | size_settings(self.size)


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
