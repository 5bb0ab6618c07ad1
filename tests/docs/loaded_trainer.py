"""`recall-trainer` for the shells of the pages: a fork of one process that has imported it runs each command.

The imports take seconds of processor time, and the pages have twenty such commands. A shell finds a small program of
that name, which hands its arguments, folder, environment and streams to the process, and ends with the same status.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "recall-trainer"
REAL = Path(sys.prefix)  # of this installation
PROGRAM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as loaded:
    loaded.connect({address!r})
    request = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode() + b"\\n"
    sent = socket.send_fds(loaded, [request], [0, 1, 2])
    loaded.sendall(request[sent:])
    status = loaded.recv(8)
sys.exit(int(status) if status else "the process that runs the command has died")
"""


@contextmanager
def loaded_trainer(environment: dict[str, str]) -> Iterator[Path]:
    """A virtual environment that is this one, but for its `recall-trainer`, which needs no imports."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the path of a socket is short
        address, made = f"{folder}/socket", Path(folder, "venv")
        (made / "bin").mkdir(parents=True)
        for real in (*REAL.iterdir(), *(REAL / "bin").iterdir()):
            if real.name not in ("bin", NAME):
                (made / real.relative_to(REAL)).symlink_to(real)
        (made / "bin" / NAME).write_text(PROGRAM.format(python=sys.executable, address=address))
        (made / "bin" / NAME).chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()  # who connects before the process has imported everything waits
            command = [sys.executable, "-m", "tests.docs.loaded_trainer", str(listener.fileno())]
            process = subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()], start_new_session=True)
        try:
            yield made
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def main(listener: socket.socket) -> None:
    """Import the command, and run it in a fork for each connection. Only the forks return."""
    from trainer.__main__ import main as command

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            if (running := os.fork()) == 0:
                take_over(connection)
                return command()  # and this process ends as any other that ran the command
            status = os.waitstatus_to_exitcode(os.waitpid(running, 0)[1])
            connection.sendall(str(status if status >= 0 else 128 - status).encode())
            os._exit(0)
        connection.close()


def take_over(connection: socket.socket) -> None:
    """Take the arguments, the folder, the environment and the streams of the program that has connected."""
    request, streams, _, _ = socket.recv_fds(connection, 65536, 3)
    while not request.endswith(b"\n"):
        request += connection.recv(65536)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.argv, folder, environment = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
