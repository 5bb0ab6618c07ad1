"""A reverse proxy that serves an application below a prefix, as nginx does with a slash after `proxy_pass`."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEPT = {"content-type", "location", "etag", "content-security-policy", "vary"}


@contextlib.contextmanager
def behind_a_prefix(prefix: str, host: str, port: int) -> Iterator[str]:
    """Yield the address below which the proxy passes everything on to this server, without the prefix."""

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                return self.send_error(404, "not below the prefix")
            server = http.client.HTTPConnection(host, port, timeout=120)
            with contextlib.closing(server):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                server.request(self.command, self.path.removeprefix(prefix), body, headers)
                answer = server.getresponse()
                content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() in KEPT:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_DELETE = _pass_on

        def log_message(self, format: str, *args: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}{prefix}"
        finally:
            proxy.shutdown()
            thread.join()
