"""Continual learning by compress-then-recall (paper, sections 5.2, A.2 and B.2).

Tasks arrive one after another, and every sample is seen once. Each task is kept as a memory in a buffer of fixed size.
The classifier of any past task is retrained on the images that its memory recalls.
"""
