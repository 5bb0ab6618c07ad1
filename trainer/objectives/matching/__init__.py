"""Matching: recalled items are to give a network the same gradients, or the same features, as real ones do."""
