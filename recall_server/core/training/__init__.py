"""Training a network: SGD with momentum and its fast implementations, augmentation, the retraining schedule."""
