"""Several processes: one run divided among them, and independent parts of a command, here or on a Ray cluster."""
