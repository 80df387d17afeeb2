"""Pages of a test, served as ours are: from this machine, and under a Content-Security-Policy as strict."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {".css": "text/css", ".js": "text/javascript"}


@contextmanager
def served(files: dict[str, str]) -> Iterator[str]:
    """The address at which these files are: documents, unless their names end as a stylesheet's or a script's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = files.get(self.path)
            self.send_response(404 if text is None else 200)
            kind = next((kind for end, kind in TYPES.items() if self.path.endswith(end)), "text/html; charset=utf-8")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Cache-Control", "max-age=600" if kind in TYPES.values() else "no-store")
            self.end_headers()
            self.wfile.write(("Not here" if text is None else text).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def document(body: str, title: str = "A page") -> str:
    """A whole document with this in its <main>, which looks as `/page.css` says."""
    return (
        f'<!doctype html><html lang="en"><head><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="/page.css"></head><body><main>{body}</main></body></html>'
    )
