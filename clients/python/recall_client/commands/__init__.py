"""The command `recall`: everything that the client can do, from a shell."""

from .app import run

__all__ = ["run"]
