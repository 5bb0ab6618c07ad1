"""Continual learning by compress, then recall (paper, sections 5.2, A.2 and B.2).

Tasks arrive one after another and every sample is seen once. What was learned of each is kept as a memory, in a buffer
of fixed size; any past task's classifier is retrained on what its memory recalls.
"""
