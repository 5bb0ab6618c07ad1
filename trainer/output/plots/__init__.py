"""Plots of a bundle: learning curves, losses, bases, recalled images, and the similarity of labels."""
