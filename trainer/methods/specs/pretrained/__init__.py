"""Specs of parts that use a frozen, pre-trained encoder."""
