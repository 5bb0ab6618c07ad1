"""What the trainer and the server share; no HTTP and no database."""
