"""Datasets by name, folder or arrays, split into training, validation and test pictures."""
