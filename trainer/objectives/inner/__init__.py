"""The inner engine: one training step, its reverse, and the unroll."""
