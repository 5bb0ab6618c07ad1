"""One connection to one server, with its retries and its errors."""
