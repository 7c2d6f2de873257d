"""
Winograd's tiles
================

A kernel of three rows makes four rows of the output from six rows of the image. Directly that takes twelve products,
one for each of the four and each row of the kernel. Winograd's way mixes the six rows first and the products
afterwards, by small fixed numbers, and needs six products in between. The next tile begins four rows lower: two rows
are read twice.

.. image:: /learn/images/winograd.png
   :alt: Two tiles of six rows each become six sums, six products and four rows of the output.
"""

from _save import BLUE, INK, ORANGE, PALE, PURPLE, cells, drawing, save_moving, subplots

figure, axes = subplots(height=3.9)
drawing(axes)
axes.set(xlim=(-0.1, 16.1), ylim=(-9.3, 1.2))


def strip(words, x, y, label):
    """Cells in a row, and what they are to their left."""
    axes.text(0, y - 0.5, label, va="center", linespacing=1.3)
    return cells(axes, [words], (x, y), fontsize=10)[0]


image = strip([f"x{i}" for i in range(10)], 6, 1, "rows of the image")
mixed = strip([f"u{a}" for a in range(6)], 6, -1, "u = Bᵀ x")
kernel = strip([f"v{a}" for a in range(6)], 6, -2.6, "v = G w, once")
products = strip([f"m{a}" for a in range(6)], 6, -4.2, "m = v ⊙ u")
output = strip([f"y{i}" for i in range(8)], 6, -6.2, "y = Aᵀ m")
said = axes.text(0, -8.4, "", color=BLUE, va="center")
for cell in kernel:
    cell.show(PALE)


def frames():
    for tile in range(2):
        first = 4 * tile
        for cell in (*image, *mixed, *products):
            cell.show()
        for cell in image[first : first + 6]:
            cell.show(BLUE, "white")
        said.set_text(f"tile {tile}: rows {first} to {first + 5} for the outputs {first} to {first + 3}")
        yield 1.6
        for cell in mixed:
            cell.show(BLUE, "white")
        said.set_text(
            f"sums and differences, such as u3 = −2x{first + 1} − x{first + 2} + 2x{first + 3} + x{first + 4}"
        )
        yield 2.2
        for cell in products:
            cell.show(PURPLE, "white")
        said.set_text("six products of matrices, where the direct way takes twelve")
        yield 2.2
        for cell in output[first : first + 4]:
            cell.show(ORANGE, "white")
        said.set_text(f"sums and differences, such as y{first + 1} = m1 − m2 + 2m3 − 2m4")
        yield 2.2
        for cell in output[first : first + 4]:
            cell.show(PALE, INK)
    said.set_text("eight rows of the output by 12 products instead of 24")
    yield 3.0


save_moving(figure, frames(), "winograd", loops=2)
