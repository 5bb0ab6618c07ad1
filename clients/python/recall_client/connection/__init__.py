"""The connection to a server: settings, blocking and asyncio input and output, retries, errors."""
