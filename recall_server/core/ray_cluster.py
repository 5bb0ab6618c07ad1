"""An external Ray cluster, and what keeps a program from using it, in sentences that say what would be right.

Nothing of Ray is imported before `connect`. Errors of Ray are told apart by their texts and names.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import socket
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from recall_server.core.hosts import is_loopback
from recall_server.errors import Unavailable

OLDEST, NEWEST = (2, 52), (2, 60)  # token authentication began with the first; the suite runs with the second
ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
VERSIONS: Final = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
SECONDS_TO_CONNECT: Final = 5.0


@final
class RayAddress(NamedTuple):
    """HOST:PORT of the head of a running cluster, and the option of the command line that names it."""

    text: str
    option: str

    def refusal(self) -> str | None:
        """Why this address is not used, as far as can be said without a connection; None if it is."""
        return _version_fault(self.option) or self._fault() or self._token_fault()

    def connect(self) -> Any:
        """Return the module `ray`, connected to the cluster. Some faults of a cluster make this wait for ever.

        Raises Unavailable if nothing answers, and errors of Ray, of which `reason` makes sentences.
        """
        host, _, port = self.text.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
        except OSError as error:
            fault = f"nothing answers at {self.text} ({error.strerror or error}); see {self.option}"
            raise Unavailable(fault, retry_after=1) from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = importlib.import_module("ray")
        ray.init(self.text, logging_level="ERROR", log_to_driver=False, configure_logging=False)
        return ray

    @property
    def silent(self) -> str:
        """The sentence for a `connect` that takes too long."""
        return f"nothing at {self.text} answers as Ray does; see {self.option}"

    def reason(self, error: Exception) -> str:
        """A sentence for what `connect` or the cluster raised."""
        text, kind = str(error), type(error).__name__
        if isinstance(error, Unavailable):
            return text
        if "Version mismatch" in text and len(versions := VERSIONS.findall(text)) == 2:
            (theirs, their_python), (ours, our_python) = versions
            return (
                f"the cluster at {self.text} has Ray {theirs} and Python {their_python}, and this machine Ray {ours} "
                f"and Python {our_python}: install the same versions"
            )
        if "Failed to connect" in text or "Authentication" in kind:
            return (
                f"{self.text} does not let this machine in: it is no Ray cluster (see {self.option}), or one that "
                "wants another token (set RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN)"
            )
        if "No node info found" in text:
            start = f"ray start --address={self.text} --num-cpus=0"
            return f"this machine is no node of the cluster at {self.text}: run `{start}` on it"
        if missing := re.search(r"ModuleNotFoundError: (.*)|ImportError: (.*)", text):
            return f"a node cannot import memory-recall ({missing.group()}): install the same packages on every node"
        return f"{kind}: {text.strip().splitlines()[-1] if text.strip() else 'no reason is given'}"

    def _fault(self) -> str | None:
        found = ADDRESS.fullmatch(self.text)
        if found and 0 < int(found[2]) < 2**16:
            return None
        given = f"{self.option} {self.text}" if self.text else f"no {self.option}"
        return (
            f"{given} is not the address of a running Ray cluster: write HOST:PORT of its head, such as 10.0.0.5:6379 "
            "(neither auto nor ray://; no cluster is started)"
        )

    def _token_fault(self) -> str | None:
        host = self.text.rpartition(":")[0]
        mode = os.environ.get("RAY_AUTH_MODE", "").lower()
        if is_loopback(host) or (mode == "token" and _has_token()):
            return None
        return (
            f"the Ray cluster at {self.text} can be reached from other machines, and runs the code of everybody who "
            "reaches it: start it with RAY_AUTH_MODE=token, and set RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN "
            "here"
        )


def has_room(node: dict[str, Any], cpus: float, gpus: float) -> bool:
    """Whether a node of `ray.nodes()` is alive and has so many CPUs and GPUs, free or not."""
    there = node["Resources"]
    return bool(node["Alive"]) and there.get("CPU", 0) >= cpus and there.get("GPU", 0) >= gpus


def rooms(nodes: list[dict[str, Any]]) -> str:
    """What the living nodes of `ray.nodes()` have."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    return "; ".join(f"{each.get('CPU', 0):g} CPUs and {each.get('GPU', 0):g} GPUs" for each in alive)


def _version_fault(option: str) -> str | None:
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return f"{option} needs Ray, which is not installed: pip install 'memory-recall[ray]'"
    if OLDEST <= tuple(int(part) for part in version.split(".")[:2]) <= NEWEST:
        return None
    oldest, newest = (".".join(map(str, each)) for each in (OLDEST, NEWEST))
    return f"Ray {version} is installed, and {oldest} to {newest} are supported: pip install 'memory-recall[ray]'"


def _has_token() -> bool:
    """Whether there is a token where Ray looks for one: in a variable, or in a file."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")
    try:
        return bool(path.expanduser().read_text().strip())
    except (OSError, RuntimeError, UnicodeDecodeError):
        return False
