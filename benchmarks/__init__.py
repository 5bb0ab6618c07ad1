"""The figures of docs/results.md, each printed by a command: `python -m benchmarks.NAME`, whose last line is JSON."""
