"""The networks, one file each; `registry` names them. Nothing here knows VapourSynth or keeps state between frames."""
