"""The commands of `recall-server`: serve the bundles of a folder, lock them, or examine this machine."""

from __future__ import annotations

import gc
import inspect
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import torch
import typer
import uvicorn
from pydantic import SecretStr, ValidationError

from recall_server import __version__
from recall_server.api.app import create_app
from recall_server.cli.doctor import examine
from recall_server.cli.http_protocol import CarefulH11Protocol
from recall_server.cli.http_server import HttpServer, end_process
from recall_server.config import Settings, cluster_refusal, configure_logs, exposure_refusal
from recall_server.core.bundle.lock import BundleLock
from recall_server.core.training.allocator import use_one_arena
from recall_server.errors import RecallError
from recall_server.service import RecallService

# Seconds that an idle connection is kept: longer than clients and proxies keep theirs, so that they close it first. A
# request sent while the server closes gets no answer, which happened with uvicorn's 5 seconds, the time of httpx.
KEEP_ALIVE = 75
EXAMPLE = Path(__file__).parents[1] / "example_artifacts"  # in an installed package, not in the repository
# After so long a thread that runs Python gives way to another. The event loop waits for that, once for each thread that
# computes, whenever it has given way itself, which every read and write of a socket does; and a thread that computes
# waits for the event loop, after every operation on a tensor. Python's own value is 0.005.
SECONDS_OF_A_TURN = 0.0001
# How often garbage of the three generations is collected. Few young objects are looked at in a moment. All objects are
# looked at by the event loop alone (`freed_memory`): in a thread of low priority that took 0.4 s under attack.
NEVER = 10**9
COLLECTIONS = (500, 5, NEVER)
SECONDS_TO_STOP = 60  # after those of draining: threads, processes and the job table have limits of their own

logger = logging.getLogger(__name__)

cli = typer.Typer(
    help="Serve memory bundles: recall images, train fresh classifiers, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def with_settings(command: Callable[[Settings], None]) -> Callable[..., None]:
    """Give a command one flag per setting. Without the flag, the environment counts, and then the default."""

    def run(**flags: Any) -> None:
        try:
            settings = Settings(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            for fault in error.errors():
                name = str(fault["loc"][0])
                typer.echo(f"error: {_flag(name)} (RECALL_{name.upper()}): {fault['msg']}", err=True)
            raise typer.Exit(2) from error
        command(settings)

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(name))
        for name in Settings.model_fields
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.__doc__
    return run


def serve(settings: Settings) -> None:
    """Serve the bundles in the artifacts folder over HTTP until SIGTERM or Ctrl-C."""
    refusal = exposure_refusal(settings) or cluster_refusal(settings) or _address_fault(settings.host, settings.port)
    if refusal is not None:
        _fail(refusal)
    configure_logs(settings.log_level, settings.log_format)
    use_one_arena()
    settings = _with_artifacts(settings)
    logger.info("bundles are served from %s", settings.artifacts.absolute())
    try:
        service = RecallService.assemble(settings)
    except (RecallError, OSError) as error:
        _fail(str(error))
    # While a training uses all cores, several threads make a prediction slower, since they wait for each other.
    torch.set_num_threads(1)
    sys.setswitchinterval(SECONDS_OF_A_TURN)
    config = uvicorn.Config(
        create_app(service),
        host=settings.host,
        port=settings.port,
        http=CarefulH11Protocol,
        log_config=None,  # uvicorn's messages go to the same place as all others
        access_log=False,
        timeout_graceful_shutdown=settings.drain_seconds,
        timeout_keep_alive=KEEP_ALIVE,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
    )
    server = HttpServer(config, service.begin_drain, settings.drain_seconds + SECONDS_TO_STOP)
    signal.signal(signal.SIGTERM, _exit)
    # A full garbage collection stops all threads and looks at every object that is not frozen: 0.2 s for the 300,000 of
    # the libraries, which never become garbage.
    gc.freeze()
    gc.set_threshold(*COLLECTIONS)
    try:
        server.run()
    except (KeyboardInterrupt, SystemExit):
        pass  # uvicorn raises the signal again after it has stopped
    except OSError as error:
        _fail(f"the server cannot run: {error.strerror or error}")
    if not server.started:
        raise typer.Exit(1)
    end_process(0)


def lock(settings: Settings) -> None:
    """Write bundles.lock for the bundles in the artifacts folder. From then on, no other files are served from it."""
    try:
        lock_file = BundleLock.of(settings.artifacts)
        lock_file.write(settings.artifacts)
    except RecallError as error:
        _fail(str(error))
    for name, digest in lock_file.digests.items():
        typer.echo(f"{digest}  {name}")


def doctor(settings: Settings) -> None:
    """Examine devices, bundles and folders. Exits with 1 if something would keep the server from working."""
    findings = examine(_with_artifacts(settings))
    for finding in findings:
        typer.echo(f"{'ok     ' if finding.good else 'PROBLEM'} {finding.subject}: {finding.detail}")
    raise typer.Exit(0 if all(finding.good for finding in findings) else 1)


def _address_fault(host: str, port: int) -> str | None:
    """Why the server could not listen there, which is found out before bundles are loaded; None if it could."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except socket.gaierror as error:
        return f"the host {host} is not known: {error.strerror}"
    except OSError as error:
        other = port % 65_535 + 1
        reason = f"port {port} of {host} cannot be used ({error.strerror})"
        return f"{reason}; choose another one, such as --port {max(other, 1024)}"
    return None


def _with_artifacts(settings: Settings) -> Settings:
    """The settings with the example that an installed package brings, where no folder is set and there is none here."""
    if "artifacts" in settings.model_fields_set or settings.artifacts.exists() or not EXAMPLE.is_dir():
        return settings
    logger.warning("there is no folder %s: an example is served", settings.artifacts.absolute())
    return settings.model_copy(update={"artifacts": EXAMPLE})


def _exit(sig: int, frame: FrameType | None) -> NoReturn:
    """Exit with 0, since a request to stop is no failure. Uvicorn raises the signal again once it has stopped."""
    raise SystemExit(0)


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(1)


def _option(name: str) -> Any:
    field = Settings.model_fields[name]
    kind = field.annotation if field.annotation in (bool, int, float) else str
    default = "" if field.annotation is SecretStr or field.default is None else str(field.default)
    help_text = f"{field.description} [env: RECALL_{name.upper()}]"
    return Annotated[kind | None, typer.Option(_flag(name), help=help_text, show_default=default)]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@cli.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


cli.command("serve")(with_settings(serve))
cli.command("lock")(with_settings(lock))
cli.command("doctor")(with_settings(doctor))
