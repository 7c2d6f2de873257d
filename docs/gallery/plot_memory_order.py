"""
The order of images in memory
=============================

Two images, a and b, of 4 × 4 pixels. A kernel of two rows and one column meets two rows of both for each row of the
output: a matrix of two lines, blue and orange. Image after image, each line lies in two pieces. Row after row, with the
two images side by side, a line is one piece and the next line follows it, so the matrix is there already. That of the
next output row begins one line later and overlaps the last one; BLAS multiplies each where it lies.

.. image:: /learn/images/memory_order.png
   :alt: Two lines of each matrix in memory, image after image in two pieces, row after row in one.
"""

import numpy as np
from _save import BLUE, INK, ORANGE, cells, drawing, save_moving, subplots

names = np.array([[[f"{image}{i}{j}" for j in range(4)] for i in range(4)] for image in "ab"])  # (n, h, w)
figure, axes = subplots(height=4.4)
drawing(axes)
axes.set(xlim=(-0.2, 16.2), ylim=(-6.6, 5))

axes.text(0, 4.3, "image a", fontweight="bold")
axes.text(5, 4.3, "image b", fontweight="bold")
images = [cells(axes, names[k], (5 * k, 4), fontsize=9) for k in range(2)]
axes.text(0, -1.1, "memory, image after image: each line in two pieces", fontweight="bold")
after = cells(axes, names.reshape(2, 16), (0, -1.4), fontsize=9)
axes.text(0, -4.2, "memory, row after row: each line in one piece", fontweight="bold")
by_rows = cells(axes, names.transpose(1, 2, 0).reshape(2, 16), (0, -4.5), fontsize=9)
said = axes.text(10.2, 1.1, "", color=BLUE, linespacing=1.5)
everything = [*images[0].flat, *images[1].flat, *after.flat, *by_rows.flat]


def frames():
    for i in range(3):
        rows = (str(i), str(i + 1))
        for cell in everything:
            row = cell.text.get_text()[1]
            color = BLUE if row == rows[0] else ORANGE
            cell.show(*((color, "white") if row in rows else ("white", INK)))
        said.set_text(f"output row {i}:\nrow {i} of both images\n(blue), and row {i + 1}")
        yield 2.0


save_moving(figure, frames(), "memory_order", loops=4)
