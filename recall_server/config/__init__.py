"""How a server is set up: settings, API keys, network exposure, logs."""
