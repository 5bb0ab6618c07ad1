"""What a request passes before its route: authorisation, admission, limits, observation."""
