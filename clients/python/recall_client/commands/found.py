"""The classifier that somebody means: by the name it was given, its id, or the beginning of its id."""

from __future__ import annotations

from recall_client.client.blocking import Classifier
from recall_client.commands.asking import Asking
from recall_client.commands.names import looks_like_id
from recall_client.errors import NotFound

_SHORTEST = 4  # characters of an id that may stand for it


def found(asking: Asking, name: str) -> Classifier:
    """A handle on it. Raises LookupError where there is none, or where several could be meant."""
    identifier = asking.names.get(name)
    if identifier is None and looks_like_id(name):
        return asking.client.classifier(name)
    if identifier is None:
        return _by_beginning(asking, name)
    try:
        return asking.client.classifier(identifier)
    except NotFound as error:
        raise LookupError(
            f"{name!r} was classifier {identifier}, which the server has no more; train it again"
        ) from error


def _by_beginning(asking: Asking, beginning: str) -> Classifier:
    known = asking.client.classifiers(limit=None) if len(beginning) >= _SHORTEST else []
    meant = [each for each in known if each.id.startswith(beginning)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise LookupError(f"{len(meant)} classifiers have ids that begin with {beginning!r}; write more of it")
    raise LookupError(
        f"no classifier is called {beginning!r} on {asking.server}; `recall classifiers` lists what there is"
    )
