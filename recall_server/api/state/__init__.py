"""What all routes share: the service, caches, rates and metrics."""
