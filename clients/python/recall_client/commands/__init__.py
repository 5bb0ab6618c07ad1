"""The command `recall`: everything that the client can do, from a shell."""

from recall_client.commands.app import run

__all__ = ["run"]
