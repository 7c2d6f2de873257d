"""What stands before the application: who may ask, by which name, and what a browser may do with the answers."""

import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

__all__ = ["Guard", "host_of"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Scripts, styles and requests of this server alone, nothing inline, in no frame. Images may be in the answers (data:)
# and on the user's disk (blob:). No header lets another site read an answer; and since no answer allows it, a browser
# does not even send another site's JSON or image here.
_HEADERS = {
    "cache-control": "no-cache",  # what was kept is asked for anew: it may be of another net, or version
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """An ASGI application before another: it refuses hosts that it does not know, and adds headers to all answers.

    A site whose name is made to lead to this machine (DNS rebinding) would have its own name in the Host header. So
    ``localhost``, addresses in figures, and the `hosts` given are let in, and no other name.
    """

    def __init__(self, app: Application, hosts: Iterable[str] = ()) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_encoded(_HEADERS)]
            await send(message)

        if scope["type"] != "http":  # the server's start and end
            await self.app(scope, receive, send)
            return
        host = host_of(scope)
        if host in ("localhost", *self.hosts) or _is_address(host):
            await self.app(scope, receive, send_guarded)
            return
        text = f"the host {host!r} is not served here: open it as localhost, or start it with --allow {host}"
        body = json.dumps({"error": text}).encode()
        headers = _encoded({"content-type": "application/json", "content-length": str(len(body))})
        await send_guarded({"type": "http.response.start", "status": 421, "headers": headers})
        await send_guarded({"type": "http.response.body", "body": body})


def host_of(scope: Scope) -> str:
    """The host that a request asks for, in lower case, without its port and without an IPv6 address's brackets.

    >>> host_of({"headers": [(b"host", b"[::1]:8000")]}), host_of({"headers": []})
    ('::1', '')
    """
    named: list[str] = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
    if len(named) != 1:  # none, or two of which another server might take the other
        return ""
    found = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::\d+)?", named[0])
    return (found[1] or found[2]) if found else ""


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
