"""The layers by family, and the combinators; users import them from `funcnn.layers` and `funcnn.compose`."""

__all__: list[str] = []
