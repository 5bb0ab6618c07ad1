"""The version of the distribution `recall-client`."""

__version__ = "0.1.0"
