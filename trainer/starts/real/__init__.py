"""Starts from real items: which of them, and what a memory stores of them."""
