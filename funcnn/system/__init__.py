"""The machine around: files, memory, and text."""

__all__: list[str] = []
