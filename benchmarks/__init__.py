"""The numbers of the README, each printed by a command: `python -m benchmarks.NAME`, whose last line is JSON."""
