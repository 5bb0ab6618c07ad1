"""Distill datasets into memory bundles, and measure what they recall: the offline half, on `recall_server`'s core."""
