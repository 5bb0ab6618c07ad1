"""Exports and plots."""
