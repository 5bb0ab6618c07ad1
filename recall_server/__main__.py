"""The entry point of `recall-server`. It imports little, for every process that trains imports it again."""

from __future__ import annotations

import sys

from recall_server.cli.start import choose_temporary_folder, open_standard_streams, take_own_temporary_folder
from recall_server.jobs.workers import processes


def main() -> None:
    """Let what trains load beside what serves, and hand over to the commands."""
    open_standard_streams()
    choose_temporary_folder()
    if sys.argv[1:2] == ["serve"]:
        take_own_temporary_folder()
        try:
            processes.prepared()
        except OSError as error:
            sys.exit(f"error: no training process can be started: {error.strerror or error}")
    from recall_server.cli.commands import cli  # not above, or both would load one after the other

    cli()


if __name__ == "__main__":
    main()
