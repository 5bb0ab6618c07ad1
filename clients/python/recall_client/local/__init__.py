"""A downloaded classifier in this process."""
