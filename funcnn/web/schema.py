"""The API as an OpenAPI 3.1 document, with the numbers of one net in it."""

from typing import Any

from funcnn import __version__
from funcnn.web.body import IMAGE_TYPES, JSON_TYPE
from funcnn.web.limits import BODY, IN_HAND, PIXELS, READ_SECONDS
from funcnn.web.seen import MAPS, STAGES

__all__ = ["schema"]

_ERRORS = {
    400: "The image is damaged, or the body is no JSON.",
    408: f"The body did not come within {READ_SECONDS:g} seconds.",
    413: f"The body has more than {BODY:,} bytes, or the image more than {PIXELS:,} pixels.",
    415: "The body is neither a PNG or JPEG file nor JSON.",
    422: "The JSON, or the query, is not as described here.",
    503: f"{IN_HAND} requests are in hand: ask again in a second.",
}


def schema(model: dict[str, Any]) -> dict[str, Any]:
    """The document for a net, given what GET /api/model answers."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{model['name']}: what it sees in an image",
            "description": "One trained net. An image goes in; probabilities, and what the net sees, come out.",
            "version": __version__,
        },
        "paths": {
            "/api/predict": {"post": _predict(model)},
            "/api/model": {"get": _get("model", "The net: its classes, input and layers.", "Model")},
            "/api/schema": {"get": _get("schema", "This document.", None)},
        },
        "components": {
            "schemas": {
                "Prediction": _prediction(model),
                "Stage": _STAGE,
                "Model": _MODEL,
                "Pixels": _PIXELS,
                "Error": _object({"error": {"type": "string", "description": "What is wrong, and what to do."}}),
            }
        },
    }


# --- Operations -----------------------------------------------------------------------------------------------


def _predict(model: dict[str, Any]) -> dict[str, Any]:
    file: dict[str, Any] = {"schema": {}}  # bytes, as OpenAPI 3.1 has them
    either = [
        _object({"image": {"type": "string", "description": "A PNG or JPEG file in base64, or as a data: URL of it."}}),
        _object({"pixels": _to("Pixels")}),
    ]
    return {
        "operationId": "predict",
        "summary": "The classes of one image, with their probabilities.",
        "description": "The image may have any size. It is prepared as the training data were: "
        f"{model['prepare'] or 'it is resized'}.",
        "parameters": [
            {
                "name": "layers",
                "in": "query",
                "description": f"Whether to give what the first {STAGES} stages of layers make of the image.",
                "schema": {"type": "string", "enum": ["true", "false"], "default": "false"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {**dict.fromkeys(IMAGE_TYPES, file), JSON_TYPE: {"schema": {"oneOf": either}}},
        },
        "responses": {
            "200": _answer("The prediction.", "Prediction"),
            **{str(status): _answer(text, "Error") for status, text in _ERRORS.items()},
        },
    }


def _get(name: str, summary: str, answer: str | None) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": {"200": _answer(summary, answer)}}


def _answer(description: str, name: str | None) -> dict[str, Any]:
    kind = {"type": "object"} if name is None else _to(name)
    return {"description": description, "content": {JSON_TYPE: {"schema": kind}}}


# --- Values ---------------------------------------------------------------------------------------------------


def _to(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """An object with these properties, all of them, and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _or_null(kind: dict[str, Any], description: str) -> dict[str, Any]:
    return {"anyOf": [kind, {"type": "null"}], "description": description}


def _array(items: dict[str, Any], *, least: int = 0, most: int | None = None) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, **({} if most is None else {"maxItems": most})}


_NUMBER: dict[str, Any] = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_TEXT: dict[str, Any] = {"type": "string"}
_PNG = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}
_LEVEL = {"type": "integer", "minimum": 0, "maximum": 255}

_PIXELS = {
    "description": "Rows, all of one length, of grey pixels, or of pixels [red, green, blue] or with an alpha too.",
    "oneOf": [
        _array(_array(_LEVEL, least=1), least=1),
        _array(_array(_array(_LEVEL, least=1, most=4), least=1), least=1),
    ],
}

_STAGE = _object(
    {
        "path": {"type": "string", "description": "The path of the last layer, as the layer table has it."},
        "layers": _array(_TEXT, least=1),
        "shape": _array(_COUNT, least=1, most=3),
        "lowest": _NUMBER | {"description": "The value that is black in the maps."},
        "highest": _NUMBER | {"description": "The value from which on it is white."},
        "maps": _array(_PNG, least=1, most=MAPS),
    }
)

_LAYER = _object(
    {"path": _TEXT, "layer": _TEXT, "output": {"type": "array", "description": "Its shape."}, "parameters": _COUNT}
)

_MODEL = _object(
    {
        "name": _TEXT,
        "classes": _array(_TEXT, least=1),
        "input": _object({"height": _COUNT, "width": _COUNT, "channels": {"enum": [1, 3]}}),
        "parameters": _COUNT,
        "layers": _array(_LAYER),
        "ink": {
            "enum": ["dark", "light", None],
            "description": "What to draw with: dark on light, or light on dark. null: it takes photographs.",
        },
        "prepare": _or_null(_TEXT, "What is done to an image first. null: it is resized."),
        "preprocess": _or_null(_TEXT, "What is done to its numbers then."),
        "limits": _object({"bytes": _COUNT, "pixels": _COUNT}),
        "funcnn": {"type": "string", "description": "The version."},
    }
)


def _prediction(model: dict[str, Any]) -> dict[str, Any]:
    count = len(model["classes"])
    return _object(
        {
            "class": _or_null({"enum": sorted(set(model["classes"]))}, "The likeliest. null: nothing is drawn."),
            "probability": _or_null(_SHARE, "Its probability."),
            "classes": {"const": model["classes"]},
            "probabilities": _or_null(
                _array(_SHARE, least=count, most=count), "In the order of the classes, of sum 1."
            ),
            "warning": _or_null(_TEXT, "Why not to trust it. null: nothing speaks against it."),
            "prepared": _or_null(_PNG, "The image as the net is given it, a drawing's ink white."),
            "layers": _or_null(_array(_to("Stage"), most=STAGES), "Given if asked for."),
            "milliseconds": _NUMBER | {"description": "What it took, without the transport.", "minimum": 0},
        }
    )
