"""
Forward, backward, and what is kept in between
==============================================

Forward, each layer hands its output to the next one and leaves its residuals. Backward goes the other way: by its
residuals, each layer turns dy, the slopes of the loss in its output, into those in its input and in its parameters.
"""

from itertools import pairwise

from _save import BLUE, INK, ORANGE, PALE, TEAL, save, subplots  # the file beside this one: the style of these pictures
from matplotlib.patches import FancyBboxPatch

FORWARD, BACKWARD, WIDTH, HEIGHT = 2.7, 0.75, 1.2, 0.6
GAP = 0.08  # between an arrow's end and what it touches

figure, axes = subplots(height=3.3)
axes.set(xlim=(0, 7.55), ylim=(-0.35, 3.45))
axes.set_axis_off()


def box(x: float, y: float, text: str, color: str, height: float = HEIGHT) -> None:
    corner = x - WIDTH / 2, y - height / 2
    style = "round,pad=0,rounding_size=0.1"
    axes.add_patch(
        FancyBboxPatch(corner, WIDTH, height, boxstyle=style, facecolor=PALE, edgecolor=color, linewidth=1.8)
    )
    axes.text(x, y, text, ha="center", va="center", color=INK)


def arrow(start: tuple[float, float], end: tuple[float, float], color: str, text: str, dx: float, dy: float) -> None:
    shape = {"arrowstyle": "-|>", "color": color, "linewidth": 2, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 15}
    axes.annotate("", xy=end, xytext=start, arrowprops=shape)
    x, y = (start[0] + end[0]) / 2 + dx, (start[1] + end[1]) / 2 + dy
    axes.text(x, y, text, ha="center" if dx == 0 else "left", va="center", color=color)


places = (1.35, 3.2, 5.05)
LOSS = 6.9
for x, name, kept, gradient in zip(
    places, ("dense", "relu", "dense"), ("its x", "where x > 0", "its x"), ("dw", None, "dw"), strict=True
):
    box(x, FORWARD, name, BLUE)
    box(x, BACKWARD, name, ORANGE)
    below, above = FORWARD - HEIGHT / 2 - GAP, BACKWARD + HEIGHT / 2 + GAP
    arrow((x, below), (x, above), TEAL, kept, 0.12, 0)
    if gradient:
        arrow((x, BACKWARD - HEIGHT / 2 - GAP), (x, -0.3), ORANGE, gradient, 0.12, 0)

box(LOSS, (FORWARD + BACKWARD) / 2, "loss", INK, height=FORWARD - BACKWARD + HEIGHT)
ends = (0.15, *places, LOSS)
for left, right in pairwise(ends):
    start = left + (WIDTH / 2 + GAP if left in places else 0)
    end = right - (WIDTH / 2 + GAP)
    arrow((start, FORWARD), (end, FORWARD), BLUE, {ends[0]: "x", ends[3]: "y"}.get(left, ""), 0, 0.25)
    arrow((end, BACKWARD), (start, BACKWARD), ORANGE, {ends[0]: "dx", ends[3]: "dy"}.get(left, ""), 0, -0.25)
axes.text(0.05, FORWARD + 0.62, "forward", color=BLUE, fontweight="bold", va="center")
axes.text(0.05, BACKWARD - 0.66, "backward", color=ORANGE, fontweight="bold", va="center")
axes.text(0.05, (FORWARD + BACKWARD) / 2, "residuals", color=TEAL, fontweight="bold", va="center")
save(figure, "residuals")
