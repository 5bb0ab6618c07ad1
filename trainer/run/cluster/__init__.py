"""Where independent parts of a command's work are computed: in this process, or as tasks of a Ray cluster."""
