"""The verbs of the server, free of HTTP: recall, train, predict, download."""
