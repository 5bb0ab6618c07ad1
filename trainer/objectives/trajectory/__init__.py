"""Trajectory matching: training on recalled items ends at the weights of experts, which learned real items."""
