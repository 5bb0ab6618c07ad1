"""Groups of classes that are part of a known data set: the superclasses of CIFAR-100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Groups = Mapping[str, tuple[str, ...]]

# A. Krizhevsky, "Learning multiple layers of features from tiny images" (2009): 20 superclasses of five classes each.
CIFAR_100 = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}
KNOWN = {"cifar100": CIFAR_100}


def groups_of(name: str, classes: Sequence[str]) -> Groups:
    """The groups of a known data set, restricted to `classes`; empty for other names."""
    found = {
        group: tuple(member for member in members.split() if member in classes)
        for group, members in KNOWN.get(name, {}).items()
    }
    return {group: members for group, members in found.items() if members}
