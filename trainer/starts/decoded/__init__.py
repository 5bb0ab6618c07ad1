"""Starts of memories with decoded images: an autoencoder's codes, and random hallucinators."""
