"""The code that the trainer and the server share: memories, networks, bundles, classifiers. No HTTP, no database."""
