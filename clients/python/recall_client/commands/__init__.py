"""The command `recall`."""

from recall_client.commands.app import run

__all__ = ["run"]
