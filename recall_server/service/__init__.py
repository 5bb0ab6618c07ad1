"""The verbs of the server, free of HTTP."""
