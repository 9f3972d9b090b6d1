"""Who may see the pages: whoever has the token, at a host name of this machine.

The token comes with the first request, in its URL. It is answered with a cookie and a redirect to the same page without
it, so that it stays neither in the address bar nor in a Referer. No answer to a request without it says anything about
the studies.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")  # with any port, for a tunnel ends in another one
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; frame-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer, a browser would not say of which page a form is
    "X-Content-Type-Options": "nosniff",
}
REFUSED = "This page needs the token that is part of the URL which `resnetlab serve` printed when it was started.\n"


class TokenRequired:
    """Passes on to `app` only what comes with the token, and sets HEADERS where an answer has none of its own.

    token: letters, digits, - and _. cookie: its name; cookies are shared by all ports of a host.
    """

    def __init__(self, app: ASGIApp, token: str, cookie: str):
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the start and the end of the server
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refused(Request(scope))
        await (refused or self.app)(scope, receive, with_headers)

    def _refused(self, request: Request) -> Response | None:
        """The answer to a request that is not passed on; None for one that is."""
        if request.headers.get("host", "").partition(":")[0] not in HOSTS:  # a name that was made to lead here
            return PlainTextResponse(f"need a host of {', '.join(HOSTS)}\n", 400)
        if (given := request.query_params.get("token")) is None:
            known = self._right(request.cookies.get(self.cookie, ""))
            return None if known else PlainTextResponse(REFUSED, 403)
        if request.method != "GET" or not self._right(given):
            return PlainTextResponse(REFUSED, 403)
        answer = RedirectResponse("/" + request.url.path.lstrip("/"), 303)  # `//host/` would lead to another one
        # Not `strict`: a browser would not send it after this redirect if the link was clicked on another site's page.
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="lax")
        return answer

    def _right(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())


def from_a_page_of_ours(request: Request) -> bool:
    """Whether a browser sent this from a page of this very server: other ports of a host have the same cookies."""
    origin, host = request.headers.get("origin"), request.headers.get("host")
    return origin is not None and urlsplit(origin).netloc == host
