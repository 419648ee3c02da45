"""The door to VapourSynth: the only package that knows its C API."""
