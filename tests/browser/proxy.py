"""A proxy before a yard, under a path prefix or none, which a test can take away and bring back."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "trailer"}


class Proxy:
    """Hands requests below its prefix to a yard, streams included, and knows what is under way."""

    def __init__(self, yard: str, prefix: str = "") -> None:
        self.prefix = prefix
        self.asked: list[str] = []  #: method and path of each request, without the prefix
        self.under_way: list[str] = []
        self.answered: list[str] = []  #: those of `asked` of whose answers the head was handed over
        self._yard = urlsplit(yard).netloc
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self.prefix}"

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                proxy._connections.add(self.connection)

            def finish(self) -> None:
                proxy._connections.discard(self.connection)
                with suppress(OSError):
                    super().finish()

            def _forward(self) -> None:
                with suppress(OSError, http.client.HTTPException):
                    proxy._forward(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _forward

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Refuse new connections and cut those that there are, as when a yard is stopped."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _forward(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.removeprefix(self.prefix)
        if not handler.path.startswith(self.prefix + "/"):
            handler.send_error(404)
            return
        entry = f"{handler.command} {path}"
        self.asked.append(entry)
        self.under_way.append(entry)
        try:
            self._answer(handler, path)
        finally:
            self.under_way.remove(entry)

    def _answer(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in _HOP_BY_HOP}
        upstream = http.client.HTTPConnection(self._yard, timeout=60)
        try:
            upstream.request(handler.command, path, body or None, headers)
            response = upstream.getresponse()
            handler.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in _HOP_BY_HOP | {"date", "server"}:
                    handler.send_header(name, value)
            has_body = handler.command != "HEAD" and response.status not in {204, 304}
            chunked = has_body and response.getheader("Content-Length") is None
            if chunked:
                handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            self.answered.append(f"{handler.command} {path}")
            while has_body and (part := response.read1(65536)):
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                handler.wfile.flush()
            if chunked:
                handler.wfile.write(b"0\r\n\r\n")
        finally:
            upstream.close()
