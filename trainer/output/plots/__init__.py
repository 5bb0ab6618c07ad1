"""What can be drawn of a bundle: how it was learnt, its bases, what it recalls, and which labels share bases."""
