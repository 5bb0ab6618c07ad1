"""Specs of objectives that match gradients, features or trajectories, and of their networks and experts."""
