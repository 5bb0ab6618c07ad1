"""Kernel regression: recalled items are the support of a ridge regression that has to predict real items."""
