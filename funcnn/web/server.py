"""Serving the page from this machine: the socket, the browser, and a clean end on Ctrl-C."""

import errno
import socket
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import closing, suppress
from ipaddress import ip_address
from typing import Any

from funcnn.model_file import Trained
from funcnn.settings import refuse
from funcnn.system.text import printable, show
from funcnn.web.app import MISSING, make_app

__all__ = ["serve"]

_CONNECTIONS = 128  # at a time
_END_SECONDS = 3  # in which requests may end after Ctrl-C


def serve(
    trained: Trained,
    *,
    name: str = "model",
    host: str = "127.0.0.1",
    port: int = 8000,
    hosts: Sequence[str] = (),
    open_browser: bool = False,
) -> None:
    """Serve the page and the API for a trained net until Ctrl-C, on this machine alone unless told otherwise.

    `name` is what the page calls the net, `host` the address that it listens at: ``"0.0.0.0"`` lets in whoever reaches
    this machine, which is said first. Port 0 is any free one. `hosts` are further names that it may be asked by; with
    `open_browser` the page is opened. It must run in the main thread to end on Ctrl-C.

        serve(load_trained("model.safetensors"), name="digits", open_browser=True)

    Raises OSError, saying what to do, for a port that is in use or not allowed, or an address that this machine lacks;
    ValueError for a port that is none and as `make_app`; ImportError without Starlette and uvicorn (extra ``web``).
    """
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError(MISSING) from error
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 2**16:
        refuse("serve", "port", "a whole number from 0 to 65535", port)
    app = make_app(trained, name, hosts=[*hosts, host])
    with closing(_listening(host, port)) as listener:
        if not _is_local(listener):
            show(
                f"warning: it listens at {printable(host)}, where other machines can reach it: there is no password. "
                "Leave out the host to serve this machine alone",
                error=True,
            )
        url = _url(listener)
        show(f"{printable(name)} is at {url} (Ctrl-C ends it)")
        if open_browser:  # the socket takes connections already
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        config = uvicorn.Config(
            app,
            lifespan="off", ws="none", log_level="warning", access_log=False, server_header=False, proxy_headers=False,
            limit_concurrency=_CONNECTIONS, timeout_graceful_shutdown=_END_SECONDS,
        )  # fmt: skip
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections at an address. Raises OSError that says what to do."""
    place = f"{printable(host)}, port {port}"
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=_CONNECTIONS)
        # Connections inherit it. asyncio sets it for sockets that name their protocol alone, and without it the second
        # part of each answer waits 40 ms for the first to be acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except UnicodeError as error:
        raise OSError(f"{place}: no such address") from error
    except socket.gaierror as error:
        raise OSError(f"{place}: no such address ({error.strerror})") from error
    except OSError as error:
        advice = {
            errno.EADDRINUSE: f"it is in use. Choose another, {(port + 1) % 2**16}, say, or 0 for any free one",
            errno.EACCES: "only an administrator may listen there. Choose a port from 1024, such as 8000",
            errno.EADDRNOTAVAIL: "this machine has no such address. Choose 127.0.0.1, or 0.0.0.0 for all that it has",
        }
        text = advice.get(error.errno or 0, error.strerror)
        raise OSError(error.errno, f"{place}: {text}") from error


def _is_local(listener: socket.socket) -> bool:
    return ip_address(listener.getsockname()[0]).is_loopback


def _url(listener: socket.socket) -> str:
    """What to open in a browser on this machine."""
    name: Any = listener.getsockname()
    address = ip_address(name[0])
    host = "localhost" if address.is_unspecified else f"[{address}]" if address.version == 6 else str(address)
    return f"http://{host}:{name[1]}/"
