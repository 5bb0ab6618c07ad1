"""Streams of tasks: those of the literature, by name, and folders of tasks."""
