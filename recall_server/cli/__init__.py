"""The commands of `recall-server`."""
