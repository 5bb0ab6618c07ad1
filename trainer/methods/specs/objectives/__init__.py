"""Objective specs: what a memory is trained for, in one module for each family of objectives."""
