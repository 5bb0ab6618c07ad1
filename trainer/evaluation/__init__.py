"""Evaluation: the accuracy of fresh networks beside baselines, few-shot episodes, and the reports of both."""
