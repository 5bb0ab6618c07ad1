"""Classifiers as people refer to them: by a given name, an id, or the beginning of an id."""

from __future__ import annotations

from recall_client.client import Classifier
from recall_client.commands.context import Context
from recall_client.commands.names import looks_like_id
from recall_client.errors import NotFound

_SHORTEST = 4  # characters of an id that may stand for it


def find_classifier(context: Context, name: str) -> Classifier:
    """Return a handle on the classifier. Raises LookupError for none, or for several."""
    identifier = context.names.get(name)
    if identifier is None and looks_like_id(name):
        return context.client.classifier(name)
    if identifier is None:
        return _by_prefix(context, name)
    try:
        return context.client.classifier(identifier)
    except NotFound as error:
        raise LookupError(
            f"{name!r} is classifier {identifier}, which is no longer on the server; train it again"
        ) from error


def _by_prefix(context: Context, prefix: str) -> Classifier:
    known = context.client.classifiers(limit=None) if len(prefix) >= _SHORTEST else []
    found = [each for each in known if each.id.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        raise LookupError(f"the ids of {len(found)} classifiers begin with {prefix!r}; give more of the id")
    raise LookupError(f"no classifier is called {prefix!r} on {context.server}; `recall classifiers` lists them")
