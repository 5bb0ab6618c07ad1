"""Entry point of the command `recall`; without the packages that it needs, it says what to install."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script; `python -m recall_client` is the same."""
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(130)


def _run() -> None:
    try:
        from recall_client.commands import run
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write("error: the command needs typer and rich: pip install 'recall-client[cli]'\n")
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
