"""Training networks: gradient descent and its fast forms, augmentation, schedules."""
