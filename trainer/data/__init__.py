"""Data sets by name, folder or arrays, split into training, validation and test pictures that never overlap."""
