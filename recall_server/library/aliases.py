"""Aliases: further names for labels, from the file `aliases.json` in the artifacts folder.

The file is a JSON object. It maps each alias to a label, a group, or a list of labels and groups:
`{"car": "automobile", "footwear": ["Sneaker", "fashion-mnist:Sandal"]}`. Labels and groups of the same name take
precedence over an alias, and an alias cannot stand for another alias.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from recall_server.core.bundle.manifest import Label, first_fault
from recall_server.core.io.tensor_file import parse_json, read_bounded
from recall_server.errors import InvalidBundle

ALIASES_FILE: Final = "aliases.json"
LARGEST_FILE = 2**20
MOST_LABELS = 1000  # of one alias

Meaning = Annotated[str, Field(min_length=1, max_length=400)]
Meanings = Annotated[list[Meaning], Field(min_length=1, max_length=MOST_LABELS)]
FILE: TypeAdapter[dict[str, Meaning | Meanings]] = TypeAdapter(dict[Label, Meaning | Meanings])

Aliases = Mapping[str, tuple[str, ...]]


def read_aliases(artifacts: Path) -> Aliases:
    """The aliases of an artifacts folder, each with what it stands for; none if there is no such file.

    Raises InvalidBundle for a file that cannot be read or has another form.
    """
    try:
        data = read_bounded(artifacts / ALIASES_FILE, LARGEST_FILE)
        found = FILE.validate_python(parse_json(data.decode("utf-8-sig")), strict=True)
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        raise InvalidBundle(f"{ALIASES_FILE} must give labels to each of its names: {first_fault(error)}") from error
    except UnicodeDecodeError as error:
        raise InvalidBundle(f"{ALIASES_FILE} is not UTF-8") from error
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise InvalidBundle(f"{ALIASES_FILE} cannot be read: {reason}") from error
    return {name: (meaning,) if isinstance(meaning, str) else tuple(meaning) for name, meaning in found.items()}
