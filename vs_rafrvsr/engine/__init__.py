"""Runs a model over a clip's frames: the only package that holds state between frames."""
