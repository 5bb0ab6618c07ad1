"""Memories of an encoder's features, from the features of all pictures of a data set."""
