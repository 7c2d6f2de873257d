"""The ASGI application: the page, and the API that it asks."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from funcnn import __version__
from funcnn.experiment.predict import check_classifies, predict_images
from funcnn.model_file import Trained, probabilities
from funcnn.report.table import TableRow, layer_rows
from funcnn.settings import as_code, refuse
from funcnn.train import NonFiniteError
from funcnn.tree import Array
from funcnn.web.body import image_of
from funcnn.web.guard import Guard
from funcnn.web.limits import BODY, IN_HAND, PIXELS, READ_SECONDS, Refused
from funcnn.web.schema import schema
from funcnn.web.seen import png, stages

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["MISSING", "make_app"]

STATIC = Path(__file__).parent / "static"
MISSING = 'the page needs Starlette and uvicorn, which are not installed: pip install "funcnn[web]"'


def make_app(trained: Trained, name: str = "model", *, hosts: Sequence[str] = ()) -> Guard:
    """The page and the API for one trained net that tells images apart, as an ASGI application.

    `name` is what the page calls the net. Browsers are served that ask for ``localhost``, an address in figures or one
    of `hosts`; whoever puts a name before the server adds it there.

    >>> from funcnn import Key
    >>> from funcnn.compose import serial
    >>> from funcnn.data import rescale
    >>> from funcnn.layers import dense, flatten
    >>> from funcnn.train import Model
    >>> net = serial(flatten(), dense(2))
    >>> params, state, _ = net.init(Key(0), (8, 8, 1))
    >>> app = make_app(Trained(net, Model(params, state), (8, 8, 1), ("cat", "dog"), rescale(255)), "pets")

    Raises ValueError for a net that does something else, LayerError for one that takes no bytes, as a net without
    preprocessing; ImportError without Starlette (extra ``web``).
    """
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Mount, Route
        from starlette.staticfiles import StaticFiles
    except ImportError as error:
        raise ImportError(MISSING) from error

    net = _served(trained, name)
    api = [
        Route("/predict", partial(_predict, net), methods=["POST"]),
        Route("/model", partial(_json, net.as_json()), methods=["GET"]),
        Route("/schema", partial(_json, schema(net.as_json())), methods=["GET"]),
    ]
    routes = [Mount("/api", routes=api), Mount("/", StaticFiles(directory=STATIC, html=True))]
    handlers = {Refused: _refused, HTTPException: _not_there, Exception: _failed}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), hosts)


_WORK = Lock()  # one prediction at a time: a net takes all cores by itself


@attrs.define(eq=False)
class _Served:
    """A net, what is known of it without a request, and how many requests are in hand."""

    trained: Trained
    name: str
    rows: list[TableRow]
    in_hand: int = 0

    def as_json(self) -> dict[str, Any]:
        """What GET /api/model answers."""
        trained = self.trained
        height, width, channels = trained.in_shape
        layers = [
            {"path": row.place, "layer": row.layer, "output": list(row.out_shape), "parameters": row.parameters}
            for row in self.rows
        ]
        return {
            "name": self.name,
            "classes": list(trained.classes),
            "input": {"height": height, "width": width, "channels": channels},
            "parameters": sum(row.parameters for row in self.rows),
            "layers": layers,
            "ink": _ink(trained),
            "prepare": None if trained.prepare is None else as_code(trained.prepare),
            "preprocess": None if trained.preprocess is None else as_code(trained.preprocess),
            "limits": {"bytes": BODY, "pixels": PIXELS},
            "funcnn": __version__,
        }

    def predict(self, content_type: str, body: bytes, with_layers: bool) -> dict[str, Any]:
        """What POST /api/predict answers."""
        with _WORK:
            start = time.perf_counter()
            image = image_of(content_type, body)
            try:
                [seen] = predict_images(self.trained, [image])
            except NonFiniteError as error:
                raise Refused(500, str(error)) from error
            answer: dict[str, Any] = {
                "class": seen.name or None,
                "probability": None,
                "classes": list(self.trained.classes),
                "probabilities": None,
                "warning": seen.warning or None,
                "prepared": None,
                "layers": None,
            }
            if seen.probabilities is not None and seen.stored is not None:
                answer |= {
                    "probability": float(seen.probabilities.max()),
                    "probabilities": [float(each) for each in seen.probabilities],
                    "prepared": png(_shown(self.trained, seen.stored)),
                }
                if with_layers:
                    names = {row.place: row.layer for row in self.rows}
                    answer["layers"] = [each.as_json() for each in stages(self.trained, names, seen.stored)]
            return answer | {"milliseconds": round(1000 * (time.perf_counter() - start), 2)}


def _served(trained: Trained, name: str) -> _Served:
    """Raises ValueError and LayerError, as `make_app` says."""
    if not isinstance(trained, Trained):
        refuse("make_app", "trained", "a Trained, as load_trained gives it", trained)
    try:
        check_classifies(trained)
    except ValueError as error:
        raise ValueError(f"make_app: {error}") from error
    probabilities(trained, np.zeros((1, *trained.in_shape), np.uint8))  # what fails for any image fails now
    return _Served(trained, name, layer_rows(trained.net, trained.in_shape))


def _ink(trained: Trained) -> str | None:
    """What to draw with for a net of grey images: dark ink if it prepares drawings, else light, as its images are."""
    if trained.in_shape[2] != 1:
        return None
    return "light" if trained.prepare is None else "dark"


def _shown(trained: Trained, stored: Array) -> Array:
    """A stored image as one can see it: a prepared drawing's ink is white, whatever its shade in the data set."""
    if trained.prepare is None or not stored.any():
        return stored
    white: Array = np.rint(stored * (255 / stored.max())).astype(np.uint8)
    return white


# --- Requests -------------------------------------------------------------------------------------------------


async def _predict(net: _Served, request: "Request") -> "Response":
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse

    wanted = request.query_params.get("layers", "false")
    if wanted not in ("true", "false") or set(request.query_params) - {"layers"}:
        raise Refused(422, f"expected the query layers=true, layers=false or none, got {request.url.query!r}")
    if net.in_hand >= IN_HAND:
        raise Refused(503, f"{IN_HAND} requests are in hand; ask again in a second")
    net.in_hand += 1
    try:
        body = await _body(request)
        content_type = request.headers.get("content-type", "")
        answer = await run_in_threadpool(net.predict, content_type, body, wanted == "true")
    finally:
        net.in_hand -= 1
    return JSONResponse(answer)


async def _body(request: "Request") -> bytes:
    """A request's body. Raises Refused for one that is too large, as soon as that is known, or too slow."""
    too_large = Refused(413, f"the body has more than {BODY:,} bytes. Send a smaller image")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > BODY:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY:
                    raise too_large
    except TimeoutError as error:
        raise Refused(408, f"the body did not come within {READ_SECONDS:g} seconds") from error
    return bytes(body)


async def _json(value: Any, request: "Request") -> "Response":
    from starlette.responses import JSONResponse

    return JSONResponse(value)


# --- Errors ---------------------------------------------------------------------------------------------------


def _error(status: int, message: str, headers: dict[str, str]) -> "Response":
    from starlette.responses import JSONResponse

    return JSONResponse({"error": message}, status_code=status, headers=headers)


async def _refused(request: "Request", error: Any) -> "Response":
    return _error(error.status, error.message, {"retry-after": "1"} if error.status == 503 else {})


async def _not_there(request: "Request", error: Any) -> "Response":
    return _error(error.status_code, f"{request.method} {request.url.path}: {error.detail}", dict(error.headers or {}))


async def _failed(request: "Request", error: Exception) -> "Response":
    return _error(500, "the server made a mistake; its terminal says which", {})
