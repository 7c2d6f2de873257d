"""Arithmetic on arrays that knows no layer: where layers are made fast."""

__all__: list[str] = []
