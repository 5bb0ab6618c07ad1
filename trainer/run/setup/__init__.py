"""What a run begins with: the request and its checks, its starting point, and its prepared data."""
