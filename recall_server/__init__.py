"""Recall synthetic training images from distilled memories, train fresh classifiers from them, and serve both.

Importing this package loads nothing else: take what you need from its modules, which the design draws as
`api -> service -> {library, jobs, classifier, query_encoder} -> bundle -> {memory, networks, preprocessing, augment}`.
Everything below `api` works without a web framework installed.
"""

__version__ = "0.1.0"
"""The version of the distribution `memory-recall`, which bundles and classifiers name as what wrote them."""
