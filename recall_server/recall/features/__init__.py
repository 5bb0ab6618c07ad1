"""Pictures and memories in the features of a pre-trained encoder."""
