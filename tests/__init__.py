"""A package, so that tests import their helpers as `tests.<folder>.<module>` (see conftest.py)."""
