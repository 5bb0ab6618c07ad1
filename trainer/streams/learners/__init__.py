"""The learners of a stream: compress-then-recall, its baselines, and joint training."""
