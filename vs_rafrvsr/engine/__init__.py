"""Runs a model over a clip's frames: the only package that holds state between frames."""

import os
import sys
from contextlib import suppress
from importlib import import_module


def _load_triton_apart() -> None:
    """Import Triton's library, which torchvision needs, bound to the LLVM inside it.

    A previewer whose graphics driver is Mesa's has another LLVM in its process: bound to that one, Triton kills it.
    """
    if not hasattr(os, "RTLD_DEEPBIND"):
        return
    import_module("torch")  # first, in the usual manner
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        with suppress(ImportError):  # not every PyTorch comes with it
            import_module("triton._C.libtriton")
    finally:
        sys.setdlopenflags(flags)


_load_triton_apart()
