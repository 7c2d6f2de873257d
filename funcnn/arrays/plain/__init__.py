"""Plain forms of the arithmetic, for arrays of any module made like NumPy: what devices compute with.

Each module has the name of the one in `funcnn.arrays` whose functions it has in another form, with the same arguments
and results (`funcnn.arrays.seam`). There are no blocks, threads or layouts here: whole arrays, in C order. Nothing
makes the host wait for a number from the device.
"""

__all__: list[str] = []
