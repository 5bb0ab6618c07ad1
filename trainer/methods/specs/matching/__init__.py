"""Specs of the objectives that match gradients, features or trajectories, and of the networks and experts they need."""
