"""The addresses of the server, and what it answers.

| address | answer |
|---|---|
| `/` | the list of studies |
| `/study/NAME` | a study, running or ended |
| `/trial/NUMBER/NAME` | one trial: its curve, its epochs, its log |
| `/report/NAME` | the report, in a frame that can reach nothing (`/report-file/NAME`) |
| `/events…` | server-sent events: the parts of the page that have changed, as HTML |
| `/ask/WHAT/NAME` | by POST from a page of this server: asks a running sweep to pause, resume or stop |

NAME is a path in the folder, and leads only to studies that a search of it found.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from threading import Lock
from typing import Any, get_args
from urllib.parse import quote

import jinja2
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from resnetlab import __version__
from resnetlab.errors import ResnetlabError
from resnetlab.report.build import as_html
from resnetlab.report.findings import Findings
from resnetlab.report.terminal import Told
from resnetlab.storage import control
from resnetlab.storage.control import What
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.web import pages
from resnetlab.web.access import TokenRequired, from_a_page_of_ours
from resnetlab.web.studies import PACE, SHARE, Studies, Watched, in_words

# A report is a file of a results folder, which may come from anywhere: it runs its script in a world of its own.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
FIRST = 0.3  # seconds that the first page waits for the list of studies
SILENCE, LONGEST = 15.0, 10.0  # seconds: after which a stream says that it is alive; between two looks, at most

Parts = dict[str, str]  # HTML by the name of its place in a page


def app(root: ResultsFolder, token: str, cookie: str, ending: Callable[[], bool], read_only: bool) -> Starlette:
    """The server of the studies in `root`.

    Args:
        root: the folder; nothing outside it is read.
        token: as of `TokenRequired`, like `cookie`.
        ending: whether the server is to end, upon which streams do.
        read_only: no sweep can be asked to pause or stop.
    """
    site = _Site(Studies(root), ending, read_only)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        site.studies.start()
        yield
        site.studies.end()

    routes = [
        Route("/", site.studies_page),
        Route("/events", site.studies_events),
        Route("/study/{name:path}", site.study),
        Route("/events/study/{name:path}", site.study_events),
        Route("/trial/{number:int}/{name:path}", site.trial),
        Route("/events/trial/{number:int}/{name:path}", site.trial_events),
        Route("/report/{name:path}", site.report),
        Route("/report-file/{name:path}", site.report_file),
        Route("/style.css", site.style),
        Route("/page.js", site.script),
    ]
    if not read_only:
        routes.append(Route("/ask/{what}/{name:path}", site.ask, methods=["POST"]))
    handlers = {404: site.absent, ResnetlabError: site.unreadable, OSError: site.unreadable}
    guard = Middleware(TokenRequired, token=token, cookie=cookie)
    return Starlette(routes=routes, middleware=[guard], lifespan=lifespan, exception_handlers=handlers)


class _Site:
    """What is answered at each address. Starlette runs these functions in threads: they read files."""

    def __init__(self, studies: Studies, ending: Callable[[], bool], read_only: bool):
        self.studies, self._ending, self._read_only = studies, ending, read_only
        self._form = secrets.token_urlsafe(16)  # known to the pages of this server alone
        self._made: tuple[Findings, bytes] | None = None  # the last report that was made, and of what
        self._making = Lock()
        load = jinja2.ChoiceLoader([jinja2.FunctionLoader(_ours), jinja2.FunctionLoader(_of_report)])
        self._templates = jinja2.Environment(
            loader=load, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
        )

    def studies_page(self, request: Request) -> Response:
        self.studies.want()
        self.studies.searched.wait(FIRST)
        content: dict[str, Any] = {
            "rows": self._rows(),
            "place": self.studies.root.url,
            "searched": self.studies.searched.is_set(),
        }
        return self._page("list.html", title="Studies", events="/events", version=__version__, **content)

    def studies_events(self, request: Request) -> Response:
        names = set(self.studies.found)

        def parts() -> Parts:
            self.studies.want()
            return self._rows() if set(self.studies.found) == names else {"": ""}  # upon which the page is loaded again

        return self._stream(PACE[True], parts)

    def study(self, request: Request) -> Response:
        watched, before = self._watched(request), _before(request)
        parts, study = self._study_parts(watched, before)(), watched.look().findings.results.study
        events = f"/events/study/{quote(watched.name)}" + (f"?before={before}" if before is not None else "")
        about: dict[str, Any] = {"name": watched.name, "title": study.title or study.name, "question": study.question}
        about |= {"form": self._form, "read_only": self._read_only}
        return self._page("study.html", events=events, parts=parts, **about)

    def study_events(self, request: Request) -> Response:
        watched = self._watched(request)
        return self._stream(watched.pace, self._study_parts(watched, _before(request)))

    def trial(self, request: Request) -> Response:
        watched, number = self._watched(request), request.path_params["number"]
        parts = self._trial_parts(watched, number)
        if "trial" not in parts:
            raise HTTPException(404)
        events = f"/events/trial/{number}/{quote(watched.name)}"
        about: dict[str, Any] = {"name": watched.name, "title": f"Trial {number} of {watched.name}", "number": number}
        return self._page("trial.html", events=events, parts=parts, **about)

    def trial_events(self, request: Request) -> Response:
        watched, number = self._watched(request), request.path_params["number"]
        return self._stream(watched.pace, lambda: self._trial_parts(watched, number))

    def report(self, request: Request) -> Response:
        name = self._watched(request).name
        return self._page("report.html", title=f"Report of {name}", events="", name=name)

    def report_file(self, request: Request) -> Response:
        watched = self._watched(request)
        content = watched.report() or self._report_of(watched.look().findings)
        return HTMLResponse(content, headers={"Content-Security-Policy": REPORT_POLICY})

    def ask(self, request: Request) -> Response:
        watched, what = self._watched(request), request.path_params["what"]
        known = secrets.compare_digest(request.query_params.get("form", "").encode(), self._form.encode())
        if what not in get_args(What) or not known or not from_a_page_of_ours(request):
            text = "Only a page of this server can ask that."
            return self._page("message.html", 403, title="Refused", events="", text=text)
        try:
            watched.check_links()
            control.ask(watched.folder, what)
        except (ResnetlabError, OSError) as error:
            title = f"{watched.name} was not asked to {what}"
            return self._page("message.html", 409, title=title, events="", text=in_words(error))
        return RedirectResponse(f"/study/{quote(watched.name)}", 303)

    def style(self, request: Request) -> Response:
        return Response(f"{_of_report('report.css')}\n{_ours('web.css')}", media_type="text/css")

    def script(self, request: Request) -> Response:
        return Response(_ours("page.js"), media_type="text/javascript")

    def absent(self, request: Request, error: Exception) -> Response:
        text = "Its address is wrong, or it has been deleted since."
        return self._page("message.html", 404, title="There is no such page", events="", text=text)

    def unreadable(self, request: Request, error: Exception) -> Response:
        return self._page("message.html", 503, title="This cannot be read", events="", text=in_words(error))

    def _watched(self, request: Request) -> Watched:
        found = self.studies.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return found

    def _rows(self) -> Parts:
        rows: Parts = {}
        for name, watched in self.studies.found.items():
            summary = watched.summary
            left = pages.left(summary) if summary is not None and summary.standing is not None else ""
            rows[name] = self._part("row", name, summary, left)
        return rows

    def _study_parts(self, watched: Watched, before: int | None) -> Callable[[], Parts]:
        """Makes the parts of a study's page, anew only where there is anything new to say."""
        last: tuple[Told | None, Parts] = (None, {})

        def parts() -> Parts:
            nonlocal last
            said = watched.look()
            if said is not last[0]:
                made = pages.study(said, watched.name, before)
                last = said, {name: self._part(name, **content) for name, content in made.items()}
            driven = said.holder is not None
            asked = control.asked(watched.folder) if driven else None
            may = driven and not self._read_only
            return {"problem": "", "asked": self._part("asked", watched.name, asked, said, may, self._form)} | last[1]

        return parts

    def _trial_parts(self, watched: Watched, number: int) -> Parts:
        made = pages.trial(watched.look(), number, watched.end_of)
        return {"problem": ""} | {name: self._part(name, content) for name, content in made.items()}

    def _report_of(self, findings: Findings) -> bytes:
        """The report of tables whose folder has none, or an older one."""
        with self._making:
            if self._made is None or self._made[0] is not findings:
                self._made = findings, as_html(findings)
            return self._made[1]

    def _part(self, part: str, *content: Any, **more: Any) -> Markup:
        """The HTML of a macro of parts.html."""
        return Markup(getattr(self._templates.get_template("parts.html").module, part)(*content, **more))

    def _page(self, template: str, status: int = 200, **content: Any) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(content), status)

    def _stream(self, pace: float, parts: Callable[[], Parts]) -> Response:
        """Sends `parts`, each when it differs from what was sent last, about every `pace` seconds."""

        async def events() -> AsyncIterator[str]:
            sent: Parts = {}
            spoken = time.monotonic()
            while not self._ending():
                began = time.monotonic()
                try:
                    made = await run_in_threadpool(parts)
                except (ResnetlabError, OSError) as error:  # what is shown stays, with this above it
                    made = {"problem": self._part("problem", text=in_words(error))}
                fresh = {name: html for name, html in made.items() if sent.get(name) != html}
                sent |= fresh
                if fresh or time.monotonic() - spoken > SILENCE:
                    spoken = time.monotonic()
                    yield f"data: {json.dumps(fresh)}\n\n"
                spent = time.monotonic() - began
                until = time.monotonic() + max(pace, min(spent / SHARE, LONGEST))
                while time.monotonic() < until and not self._ending():
                    await asyncio.sleep(0.1)

        return StreamingResponse(events(), media_type="text/event-stream")


def _before(request: Request) -> int | None:
    text = request.query_params.get("before", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _ours(name: str) -> str | None:
    file = files("resnetlab.web") / name
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _of_report(name: str) -> str:
    return (files("resnetlab.report") / name).read_text(encoding="utf-8")
