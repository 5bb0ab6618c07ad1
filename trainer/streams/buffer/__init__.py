"""What a learner keeps between tasks."""
