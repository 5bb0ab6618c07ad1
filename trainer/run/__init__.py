"""The outer loop: build, step, validate, publish, checkpoint, resume."""
