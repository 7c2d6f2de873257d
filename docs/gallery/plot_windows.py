"""
Windows that glide over an image
================================

An image of 5 × 5 pixels, each with its place in memory, under a kernel of 3 × 3. From one window to the next the first
pixel moves by 1 place to the right and by 5 downwards, and inside of each window cells are 1 and 5 places apart, too.
Four strides say where all 81 cells are; none is copied.

.. image:: /learn/images/windows.png
   :alt: A window glides over an image of 5 × 5 pixels; its nine cells are three pieces of memory.
"""

import numpy as np
from _save import BLUE, INK, ORANGE, PALE, cells, drawing, save_moving, subplots

places = np.arange(25).reshape(5, 5)
figure, axes = subplots(height=3.3)
drawing(axes)
axes.set(xlim=(-0.1, 25.1), ylim=(-4.2, 9.1))

axes.text(0, 8.4, "the image", fontweight="bold")
image = cells(axes, places, (0, 8), size=1.6)
axes.text(10.6, 8.4, "one window", fontweight="bold")
window = cells(axes, np.full((3, 3), ""), (10.6, 6.4), size=1.6)
axes.text(19.2, 8.4, "the output", fontweight="bold")
output = cells(axes, np.full((3, 3), ""), (19.2, 6.4), size=1.6)
axes.text(0, -1.0, "memory", fontweight="bold")
memory = cells(axes, places.reshape(1, -1), (0, -1.4), fontsize=8)
said = axes.text(0, -3.7, "", color=BLUE)


def frames():
    for i, j in np.ndindex(3, 3):
        seen = places[i : i + 3, j : j + 3]
        for place in range(25):
            fill, ink = (BLUE, "white") if place in seen else ("white", INK)
            image.flat[place].show(fill, ink)
            memory.flat[place].show(fill, ink)
        for cell, place in zip(window.flat, seen.flat, strict=True):
            cell.show(BLUE, "white", place)
        output[i, j].show(ORANGE, "white", f"y{i}{j}")
        said.set_text(f"window ({i}, {j}) begins at {i} · 5 + {j} · 1 = {5 * i + j}")
        yield 1.0
        output[i, j].show(PALE)
    for cell in (*image.flat, *memory.flat):
        cell.show()
    said.set_text("9 windows of 9 cells, 81 in all, from 25 places in memory")
    yield 3.0


save_moving(figure, frames(), "windows", loops=2)
