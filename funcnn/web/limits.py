"""What a request may take, and the error that says so."""

import attrs

__all__ = ["BODY", "IN_HAND", "PIXELS", "READ_SECONDS", "Refused"]

BODY = 16 * 2**20  # bytes of a request: a telephone's photograph has 3 to 8 million
PIXELS = 25_000_000  # of an image, as many as funcnn.data.images reads from a small file
READ_SECONDS = 30.0  # in which a request's body must have come
IN_HAND = 32  # requests at a time, those included whose body is still coming or that wait their turn


@attrs.frozen
class Refused(Exception):
    """A request that gets no prediction: the status of the answer, and what is wrong with the request, in words."""

    status: int
    message: str
