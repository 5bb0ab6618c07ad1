"""Architecture search on a memory: the networks of a space, and how well a memory ranks them."""
