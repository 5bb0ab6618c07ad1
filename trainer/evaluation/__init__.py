"""Accuracy of fresh networks beside baselines, and few-shot episodes."""
