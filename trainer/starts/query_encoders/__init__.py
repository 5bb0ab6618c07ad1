"""Starts of query encoders, and of the memories that pictures address through them."""
