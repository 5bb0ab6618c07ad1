"""The public clients and the handles on classifiers."""
