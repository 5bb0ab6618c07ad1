"""Whether a request with pictures is answered in the features of an encoder, and by which head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from recall_server.errors import InvalidRequest, UnsupportedQuery
from recall_server.library import Library
from recall_server.recall.addressing import Addressing
from recall_server.recall.features.few_shot import HeadWay
from recall_server.recall.features.picture_heads import PictureHead, head_among_labels, head_of_pictures
from recall_server.recall.features.picture_space import picture_space, space_of_labels
from recall_server.recall.queries import label_queries
from recall_server.recall.uploads import Picture, PictureLimits

WAYS: Final[dict[str, HeadWay]] = {
    "pictures": "pictures",
    "prototypes": "prototypes",
    "recalled": "recalled",
    "together": "together",
}
IN_PIXELS: Final = frozenset({"images", "classify"})


@final
@dataclass(frozen=True)
class FeatureRequest:
    """What a request says beside its pictures: labels, the bundle that helps, and how the pictures are used."""

    labels: Sequence[str]
    bundle: str | None
    addressing: Addressing
    own_pictures: bool


def pictures_in_features(
    library: Library, pictures: Sequence[Picture], asked: FeatureRequest, limits: PictureLimits
) -> PictureHead | None:
    """The head for the pictures in features; None for a request that is for a memory of images.

    Raises UnsupportedQuery for a way that needs an encoder where none is loaded, InvalidRequest for options that do not
    go together, and errors as `head_of_pictures` and `head_among_labels`.
    """
    if asked.labels:
        if asked.addressing not in {"auto", "recalled"} or not asked.own_pictures:
            raise InvalidRequest(
                "pictures among labels are always used together with what the memory recalls for them; "
                "leave addressing and own_pictures out",
                parameter="addressing",
            )
        queries = label_queries(library, asked.labels, asked.bundle, space="features")
        return head_among_labels(queries, pictures, space_of_labels(library, queries), limits)
    if asked.addressing in IN_PIXELS or not asked.own_pictures:
        return None
    space = picture_space(library, asked.bundle)
    if space is not None:
        return head_of_pictures(pictures, space, WAYS.get(asked.addressing, "auto"), limits)
    if asked.addressing in WAYS and asked.addressing != "prototypes":
        raise UnsupportedQuery(
            f"{asked.addressing} needs an encoder of features, and none is loaded for it; put one into the folder "
            "encoders",
            parameter="addressing",
        )
    return None
