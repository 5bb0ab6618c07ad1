"""Losses through the inner loop: performance matching, its form for MLPs, and label distillation."""
