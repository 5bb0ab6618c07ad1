"""Memories and settings that are chosen on validation data."""
