"""The buffer: the memories and samples that a learner stores."""
