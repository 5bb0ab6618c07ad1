"""Recalled images in the file formats of other tools, in pixel space or normalised as the tool expects.

This project never reads these files. The .pt files are written by `torch.save`, because the tools load them with torch.
They contain only tensors, lists and dictionaries, so that `torch.load(..., weights_only=True)` accepts them.
"""
