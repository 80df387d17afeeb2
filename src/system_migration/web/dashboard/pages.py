"""Templates to answers: everything escaped, nothing from other hosts, nothing kept by caches."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from uuid import uuid4

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from system_migration import wording
from system_migration.settings import PRODUCTION
from system_migration.web.dashboard import charts, figures, happenings, standing

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_CODE = re.compile(r"`([^`]+)`")
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def render(template: str, status: int = 200, headers: Mapping[str, str] | None = None, **context: Any) -> HTMLResponse:
    """A template as an answer. `context` is what the template asks for; what is missing in it is an error."""
    text = _templates().get_template(template).render(context)
    return HTMLResponse(text, status, {**HEADERS, **(headers or {})})


class Pages:
    """Renders the screens, with what all of them show: environment, who looks, where everything is."""

    def __init__(self, sign_out: str | None) -> None:
        self._sign_out = sign_out

    def answer(
        self,
        request: Request,
        template: str,
        status: int = 200,
        *,
        environment: str,
        token: str,
        told: str | None,
        **context: Any,
    ) -> HTMLResponse:
        """A screen for the developer of this request."""
        return render(
            template,
            status,
            environment=environment,
            is_production=environment == PRODUCTION,
            developer=getattr(request.state, "developer", ""),
            token=token,
            told=told,
            new_request=lambda: str(uuid4()),
            sign_out=outside(request, self._sign_out) if self._sign_out is not None else None,
            root=root_of(request),
            **context,
        )


def root_of(request: Request) -> str:
    """Where the page is mounted, as a browser sees it, without a slash at its end."""
    return str(request.url_for("dashboard_overview").path)


def outside(request: Request, path: str) -> str:
    """A path of the application as a browser sees it: behind the prefix under which a proxy shows the application."""
    scope = request.scope
    return str(scope.get("app_root_path", scope.get("root_path", ""))).rstrip("/") + path


def static_file(name: str, version: str | None) -> Response:
    """A file that every screen may ask for; kept by browsers for as long as its name bears its version."""
    content = _static().get(name)
    if content is None:
        return Response(status_code=404)
    lasting = "public, max-age=31536000, immutable" if version == _version() else "no-cache"
    kind = TYPES["." + name.rpartition(".")[2]]
    return Response(content, media_type=kind, headers={"Cache-Control": lasting, "X-Content-Type-Options": "nosniff"})


@cache
def _static() -> dict[str, bytes]:
    folder = files("system_migration.web.dashboard") / "static"
    return {file.name: file.read_bytes() for file in folder.iterdir() if "." + file.name.rpartition(".")[2] in TYPES}


@cache
def _version() -> str:
    return hashlib.sha256(b"".join(content for _, content in sorted(_static().items()))).hexdigest()[:12]


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("system_migration.web.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "shown": wording.shown,
        "value": wording.value,
        "duration": wording.duration,
        "speed": wording.speed,
        "size": wording.size,
        "milliseconds": charts.milliseconds,
        "number": figures.number,
        "notes": standing.notes,
        "deed": happenings.deed,
        "remarks": happenings.remarks,
        "kind": wording.kind,
        "approval": wording.approval,
        "time": _time,
        "verbatim": _verbatim,
        "paragraphs": _paragraphs,
        "prose": _prose,
    }
    made.globals |= {"version": _version(), "counted": wording.counted}
    return made


def _time(at: Any) -> Markup:
    """A moment as a `time` element: UTC, which the script turns into the reader's own zone."""
    if at is None:
        return Markup("–")
    moment = wording.moment(at)
    exact = moment.replace(" ", "T") + "Z"
    return Markup('<time datetime="{}" title="{} UTC">{} UTC</time>').format(exact, moment, moment)


def _verbatim(text: str | None) -> Markup:
    """A message of several lines, each as text, as it was said."""
    return Markup("<br>").join(escape(wording.shown(line)) for line in (text or "").strip().splitlines())


def _paragraphs(text: str | None) -> Markup:
    """A message of several lines, what stands in backticks as code."""
    return Markup("<br>").join(_prose(line) for line in (text or "").strip().splitlines())


def _prose(text: str) -> Markup:
    """A sentence on one line, what stands in backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(wording.shown(text)))))
