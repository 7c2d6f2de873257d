"""A page to draw on, and a JSON API, for one trained net: `serve` runs it, `make_app` is the ASGI application alone.

A drawing, a photograph or an array of pixels goes in; out come the probabilities, the image as the net is given it, and
the first feature maps that it makes of it. docs/serve.md shows it in use.
"""

from funcnn.web.app import make_app
from funcnn.web.server import serve

__all__ = ["make_app", "serve"]
