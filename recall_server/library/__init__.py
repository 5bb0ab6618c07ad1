"""The loaded bundles, reloaded when their files change, and the names of labels over all of them."""
