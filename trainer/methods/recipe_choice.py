"""What the command line asks for, with a recipe or without: data, size and method, and the table of recipes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from trainer.methods.budget import Size
from trainer.methods.method import Method
from trainer.methods.named import METHODS, named
from trainer.methods.paper import Experiment, recipes

DEFAULT_METHOD = next(iter(METHODS))
COLUMNS = ("recipe", "N", "stores", "preprocessing", "augmentation", "network", "T", "rows", "momentum", "paper, %")


@dataclass(frozen=True)
class RecipeChoice:
    """The data set's source, the method before it is overridden, and what is asked of the budget."""

    dataset: str
    method: Method
    size: Size


def wish(recipe: str | None, *, dataset: str | None, method: str | None, size: Size, in_bytes: bool) -> RecipeChoice:
    """What is asked for; an option that is given takes the place of the recipe's own.

    ValueError for an unknown recipe, with the nearest known ones, for a recipe and a method at once, and for no data.
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
    """The recipe of that name; ValueError with the nearest ones."""
    known = recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, cutoff=0.5) or list(known)[:3]
        raise ValueError(f"there is no recipe {name!r}; near it are {', '.join(near)}, and `recipes` lists all")
    return known[name]


def starting_with(prefix: str) -> list[Experiment]:
    """The recipes whose names begin so; ValueError where there is none."""
    found = [recipe for name, recipe in recipes().items() if name.startswith(prefix)]
    return found or [find(prefix)]


def as_json(chosen: Iterable[Experiment]) -> list[dict[str, object]]:
    """Everything that the recipes set, as plain values."""
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
    """A line for each, with what it sets beside the others; whatever else a method has is the same for all."""
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
