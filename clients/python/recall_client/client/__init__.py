"""The public clients, and the handles on classifiers that they return."""
