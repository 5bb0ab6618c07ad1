"""Memories with differential privacy: noise that hides whether any one picture was there, and statistics with it."""
