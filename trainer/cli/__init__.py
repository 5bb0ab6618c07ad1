"""The command line `recall-trainer`."""
