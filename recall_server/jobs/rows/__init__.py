"""What is stored of a job: its row in a table, its files, and the task that a worker trains."""
