"""The encoder whose features pictures of classes are compared in, and the memory that helps there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import UnsupportedQuery
from recall_server.library import Library, LoadedBundle
from recall_server.recall.features.known_classes import KnownClasses, class_model, most_knowing
from recall_server.recall.queries import Query


@final
@dataclass(frozen=True, eq=False)
class PictureSpace:
    """The features of `encoder`; `known` is the memory in them that knows most, None if none knows how classes vary."""

    encoder: QueryEncoder
    known: KnownClasses | None


def picture_space(library: Library, bundle: str | None) -> PictureSpace | None:
    """The space for pictures alone, at the encoder's own size; None if the bundle named, or all, are of images.

    Without a name it is the space of the memory that knows most, or else of any memory of features, or else of the
    library's spare encoder.
    """
    loaded = list(library.bundles.values()) if bundle is None else [library.pick(bundle)]
    if bundle is not None and loaded[0].feature_encoder is None:
        return None
    found = [each.feature_encoder for each in loaded if each.feature_encoder is not None]
    encoders = {each.sha256: each for each in found}
    if not encoders:
        return None if library.picture_encoder is None else PictureSpace(library.picture_encoder, None)
    spaces = [PictureSpace(each.at_own_size, _known(library, bundle, each.sha256)) for each in encoders.values()]
    return max(spaces, key=lambda space: 0 if space.known is None else len(space.known.model.known))


def space_of_labels(library: Library, queries: Sequence[Query]) -> PictureSpace:
    """The space for pictures among labels, at the size of the memory of the first label.

    Raises UnsupportedQuery for labels of images and of several encoders, and where no memory says how classes vary.
    """
    first = queries[0].loaded.feature_encoder
    for query in queries:
        if query.loaded.feature_encoder is None or first is None:
            raise UnsupportedQuery(
                f"{query.name} is a label of {query.loaded.name}, a memory of images; classes of your own pictures "
                "meet labels of memories of features alone",
                parameter="labels",
            )
        if query.loaded.feature_encoder.sha256 != first.sha256:
            raise UnsupportedQuery(
                f"the memories {queries[0].loaded.name} and {query.loaded.name} hold features of different encoders, "
                "which cannot be told apart by one classifier; ask for labels of one of them",
                parameter="labels",
            )
    assert first is not None
    known = _known(library, queries[0].loaded.name, first.sha256)
    if known is None:
        raise UnsupportedQuery(
            "no loaded memory in the features of this encoder says how its classes vary, so pictures cannot be told "
            "from labels; send pictures of all classes instead",
            parameter="labels",
        )
    return PictureSpace(first, known)


def _known(library: Library, bundle: str | None, encoder: str) -> KnownClasses | None:
    """The known classes of the named bundle or, if it does not describe any, of the memory that knows most."""
    named: LoadedBundle | None = None if bundle is None else library.pick(bundle)
    model = None if named is None else class_model(named.bundle)
    if named is not None and model is not None:
        return KnownClasses(named, model)
    return most_knowing(library.bundles.values(), encoder)
