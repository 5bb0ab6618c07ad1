"""Learners of a stream: compressors and baselines."""
