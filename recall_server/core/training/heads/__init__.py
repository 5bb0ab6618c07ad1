"""Linear heads: their loss, L-BFGS, and what a head would say without one of its items."""
