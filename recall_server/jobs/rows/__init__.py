"""The durable half of a job: its row, its files, its task."""
