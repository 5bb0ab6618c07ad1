"""The entry point of `recall-server`. It imports little, for every process that trains imports it again."""

from __future__ import annotations

import sys

from recall_server.jobs.workers import processes


def main() -> None:
    """Let what trains load beside what serves, and hand over to the commands."""
    if sys.argv[1:2] == ["serve"]:
        processes.prepared()
    from recall_server.cli.commands import cli  # not above, or both would load one after the other

    cli()


if __name__ == "__main__":
    main()
