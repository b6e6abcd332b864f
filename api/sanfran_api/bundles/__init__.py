"""From what people upload to a bundle: a canonical tar with a digest, and the module to load.

`layout` and `entry` decide without I/O; `archives` reads what was uploaded; `pack` writes.
"""
