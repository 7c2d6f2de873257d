"""The machine around: files, and memory."""

__all__: list[str] = []
