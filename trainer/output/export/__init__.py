"""Recalled images for other people's tools: un-whitened, in the files and by the names that those tools read.

Nothing of this project reads these files. Those with the ending .pt are made by `torch.save`, for that is what the
tools load; they hold tensors, lists and dictionaries only, so that `torch.load(..., weights_only=True)` takes them.
"""
