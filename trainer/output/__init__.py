"""Exports for other tools, and plots."""
