"""The choice of data, size and method on the command line, with or without a recipe; and the list of recipes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from trainer.methods.method import Method
from trainer.methods.named import METHODS, named
from trainer.methods.paper import Experiment, recipes
from trainer.methods.specs.budget import Size

DEFAULT_METHOD = next(iter(METHODS))
COLUMNS = ("recipe", "N", "stores", "preprocessing", "augmentation", "network", "T", "rows", "momentum", "paper, %")


@dataclass(frozen=True)
class RecipeChoice:
    """The data set's source, the method before overrides, and the requested budget."""

    dataset: str
    method: Method
    size: Size


def wish(recipe: str | None, *, dataset: str | None, method: str | None, size: Size, in_bytes: bool) -> RecipeChoice:
    """The choice. Options that are given replace those of the recipe.

    Raises ValueError for an unknown recipe, with the nearest names, for a recipe together with a method, and for no
    data.
    """
    if recipe is None:
        if dataset is None:
            raise ValueError("name the pictures to distill, --dataset NAME or --dataset FOLDER, or a --recipe")
        return RecipeChoice(dataset, named(method or DEFAULT_METHOD), size)
    if method is not None:
        raise ValueError(f"the recipe {recipe} is a method already; leave --method out, or change fields with --set")
    chosen = find(recipe)
    budget = size.images_per_class
    if budget is None and not in_bytes:
        budget = chosen.images_per_class
    bases = chosen.bases if size.bases is None else size.bases
    return RecipeChoice(dataset or chosen.dataset, chosen.method, Size(budget, bases, size.rows))


def find(name: str) -> Experiment:
    """The recipe with this name. Raises ValueError with the nearest names."""
    known = recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, cutoff=0.5) or list(known)[:3]
        raise ValueError(f"there is no recipe {name!r}; near it are {', '.join(near)}, and `recipes` lists all")
    return known[name]


def starting_with(prefix: str) -> list[Experiment]:
    """The recipes whose names start with this prefix. Raises ValueError if there are none."""
    found = [recipe for name, recipe in recipes().items() if name.startswith(prefix)]
    return found or [find(prefix)]


def as_json(chosen: Iterable[Experiment]) -> list[dict[str, object]]:
    """All settings of the recipes as plain values."""
    return [
        {
            "name": recipe.name,
            "dataset": recipe.dataset,
            "images_per_class": recipe.images_per_class,
            "bases": recipe.bases,
            "method": recipe.method.flat() | {"name": recipe.method.name},
            "reported": dict(recipe.reported),
        }
        for recipe in chosen
    ]


def lines(chosen: Iterable[Experiment]) -> list[str]:
    """One line per recipe, with the settings that differ between recipes."""
    cells = [COLUMNS, *(_cells(recipe) for recipe in chosen)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cells(recipe: Experiment) -> tuple[str, ...]:
    method, fields = recipe.method, recipe.method.flat()
    network, depth = method.objective.network.architecture, method.objective.network.depth
    forward = fields["objective.optimiser.gradient"] == "forward"
    return (
        recipe.name,
        str(recipe.images_per_class),
        f"{recipe.bases or 'pictures'} {method.memory.resolution}",
        method.preprocessing.kind,
        method.objective.augmentation,
        network if depth is None else f"{network} {depth}",
        str(fields["objective.steps"]),
        str(fields["objective.rows_per_class"]),
        f"{fields['objective.optimiser.momentum']:g}" + (" forward" if forward else ""),
        ", ".join(f"{name} {accuracy:g}" for name, accuracy in recipe.reported.items()),
    )
