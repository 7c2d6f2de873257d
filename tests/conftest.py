"""One hypothesis profile for every test: the same examples in every run, on every machine."""

from hypothesis import settings

settings.register_profile("funcnn", deadline=None, derandomize=True, max_examples=50, database=None)
settings.load_profile("funcnn")
