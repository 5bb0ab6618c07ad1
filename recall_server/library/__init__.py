"""The loaded bundles, kept up with the disk, and the names they know."""
