"""Handwritten digits that no data set has: strokes of five hands, drawn with Pillow in ten styles, as people send them.

A stroke is a line of points in a square of side 1, x to the right and y down.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Points = Sequence[tuple[float, float]]
Array = np.ndarray[Any, Any]


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> Points:
    """An arc of an ellipse, its angles in degrees from the right, clockwise as one sees it."""
    angles = [math.radians(start + (end - start) * i / 24) for i in range(25)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def smooth(*points: tuple[float, float]) -> Points:
    """A curve through points (Catmull and Rom's)."""
    p = [points[0], *points, points[-1]]
    curve = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        for t in (i / 12 for i in range(13)):
            weights = ((-t + 2 * t**2 - t**3) / 2, (2 - 5 * t**2 + 3 * t**3) / 2, (t + 4 * t**2 - 3 * t**3) / 2,
                       (t**3 - t**2) / 2)  # fmt: skip
            curve.append(tuple(sum(w * q[k] for w, q in zip(weights, (a, b, c, d), strict=True)) for k in (0, 1)))
    return curve  # type: ignore[return-value]


# The digits of each hand, their strokes apart by |: ~ is a curve through points x,y in hundredths, - is straight
# lines, o an arc, by its centre, its radii and the angles of its ends.
_HANDS = [
    [  # upright and round
        "o 50,50 32,50 -100,262",
        "- 50,0 50,100",
        "~ 20,25 30,5 60,0 78,22 60,55 20,100 | - 20,100 82,100",
        "~ 20,12 50,0 75,20 65,42 42,48 | ~ 42,48 70,55 80,78 55,100 18,90",
        "- 30,0 15,60 85,60 | - 68,15 68,100",
        "- 75,0 28,0 24,45 | ~ 24,45 55,38 80,65 60,98 20,92",
        "~ 65,0 38,25 22,65 42,99 70,88 70,62 45,55 24,75",
        "- 15,0 82,0 | - 82,0 40,100",
        "o 50,25 25,25 -90,270 | o 50,75 31,25 -90,270",
        "o 50,28 27,28 0,360 | ~ 77,28 76,60 70,100",
    ],
    [  # leaning to the right
        "~ 68,4 40,14 20,60 32,98 62,88 82,40 72,6 60,5",
        "- 62,0 38,100",
        "~ 30,22 50,2 80,10 74,40 40,75 14,96 | ~ 14,96 35,88 55,100 80,92",
        "~ 32,8 62,0 82,14 70,38 45,46 | ~ 45,46 72,52 72,80 42,100 14,90",
        "~ 50,0 35,30 14,58 | - 14,58 84,52 | - 74,20 52,100",
        "~ 42,2 36,25 30,44 | ~ 30,44 58,40 74,60 58,90 14,100 | - 42,2 86,0",
        "~ 78,0 48,25 24,70 36,98 62,90 70,66 52,54 28,70",
        "~ 20,8 50,6 86,0 | ~ 86,0 60,40 38,100",
        "~ 80,12 56,0 38,18 52,42 64,70 44,100 22,84 34,60 66,40 82,14",
        "~ 78,14 50,0 28,26 40,50 66,38 80,10 | ~ 80,10 70,60 50,100",
    ],
    [  # in print, with corners
        "o 50,50 26,50 -90,270",
        "- 32,20 52,0 52,100",
        "~ 20,20 48,0 76,20 66,50 | - 66,50 18,100 80,100",
        "- 20,0 78,0 46,40 | ~ 46,40 78,52 78,86 48,100 18,88",
        "- 66,100 66,0 14,68 86,68",
        "- 76,0 26,0 24,42 | ~ 24,42 60,36 80,66 60,98 20,92",
        "~ 62,0 34,40 24,72 | o 50,72 26,28 180,540",
        "- 16,0 80,0 44,100 | - 36,50 76,50",
        "o 50,24 22,24 90,450 | o 50,74 27,26 -90,270",
        "o 46,28 26,28 0,360 | - 72,20 72,100",
    ],
    [  # wide and quick
        "~ 60,8 30,6 10,50 40,96 80,82 90,40 66,8 42,6",
        "~ 46,0 50,50 48,100",
        "~ 16,18 46,0 76,16 60,56 30,92 16,84 36,78 60,96 90,90",
        "~ 14,12 46,0 72,14 62,38 34,50 70,54 82,78 50,100 10,92",
        "~ 20,4 14,34 20,56 50,54 80,44 | ~ 80,4 76,50 74,100",
        "~ 34,4 26,40 56,40 82,60 66,92 34,100 10,90 | - 34,4 90,4",
        "~ 50,0 24,34 14,72 34,98 70,92 80,70 56,56 30,64 18,80",
        "~ 10,16 20,2 50,6 88,2 | ~ 88,2 62,46 50,100",
        "~ 74,12 46,2 26,20 46,44 76,68 70,94 40,100 20,82 40,54 70,34 74,12",
        "~ 76,20 50,2 20,20 30,50 60,46 78,16 | ~ 78,16 80,50 76,100",
    ],
    [  # narrow, with ornaments
        "~ 50,0 32,20 28,60 42,98 62,90 72,50 64,12 50,0",
        "- 30,24 52,0 52,100 | - 28,100 76,100",
        "~ 28,28 34,6 58,2 70,24 56,58 24,100 | ~ 24,100 50,95 78,100",
        "~ 28,10 52,0 68,16 60,40 44,48 | ~ 44,48 66,52 74,76 58,98 26,94",
        "- 56,0 22,62 80,62 | - 62,38 60,100",
        "- 70,2 34,2 32,42 | ~ 32,42 56,38 72,62 62,94 26,96",
        "~ 68,6 50,0 32,36 28,72 44,100 66,86 62,60 44,56 30,72",
        "~ 24,12 26,2 50,4 74,0 | - 74,0 46,100 | - 36,52 72,46",
        "o 50,22 18,22 90,450 | o 50,72 23,28 -90,270",
        "o 48,26 20,26 0,360 | ~ 68,26 68,70 56,98 34,92",
    ],
]  # fmt: skip


def strokes_of(text: str) -> list[Points]:
    """The strokes that a text writes."""
    made: list[Points] = []
    for stroke in text.split(" | "):
        kind, *pairs = stroke.split()
        numbers = [tuple(map(float, pair.split(","))) for pair in pairs]
        points = [(x / 100, y / 100) for x, y in numbers]
        if kind == "o":
            made.append(arc(*points[0], *points[1], *numbers[2]))
        else:
            made.append(smooth(*points) if kind == "~" else points)
    return made


HANDS = [[strokes_of(digit) for digit in hand] for hand in _HANDS]

DRAWN = 4  # pixels that are drawn for each of an image: what is drawn is smooth at its edges


def ink(
    strokes: Sequence[Points],
    shape: tuple[int, int],
    corner: tuple[float, float],
    height: float,
    pen: float,
    *,
    turn: float = 0,
) -> Array:
    """Strokes as shares of ink (height, width), 0 to 1; their square's corner and side, and the pen, are in pixels."""
    canvas = Image.new("L", (shape[1] * DRAWN, shape[0] * DRAWN), 0)
    draw = ImageDraw.Draw(canvas)
    radius, angle = pen * DRAWN / 2, math.radians(turn)
    for stroke in strokes:
        points = []
        for x, y in stroke:
            dx, dy = x - 0.5, y - 0.5
            x, y = 0.5 + dx * math.cos(angle) - dy * math.sin(angle), 0.5 + dx * math.sin(angle) + dy * math.cos(angle)
            points.append(((corner[1] + x * height) * DRAWN, (corner[0] + y * height) * DRAWN))
        draw.line(points, fill=255, width=max(1, round(2 * radius)))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(canvas.resize((shape[1], shape[0]), Image.Resampling.BOX), np.float64) / 255


def on(paper: Any, colour: Any, drawn: Array) -> Array:
    """Ink of a colour on paper, both a shade, a colour or an image of them -> bytes (height, width, 3)."""
    share = drawn[..., None]
    image = np.asarray(paper, np.float64) * (1 - share) + np.asarray(colour, np.float64) * share
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def blurred(image: Array, radius: float) -> Array:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


# --- Styles ---------------------------------------------------------------------------------------------------

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
Draw = Callable[[Sequence[Points], np.random.Generator], Array]


def plain(strokes: Sequence[Points], rng: np.random.Generator) -> Array:
    """A thick black pen, large on a white canvas."""
    return on(WHITE, BLACK, ink(strokes, (280, 280), (40, 40), 200, 20))


def small(strokes: Sequence[Points], rng: np.random.Generator) -> Array:
    """Small, somewhere on a large sheet."""
    corner = rng.uniform(20, 420), rng.uniform(20, 520)
    return on(WHITE, (20, 20, 20), ink(strokes, (500, 600), corner, 55, 5))


def in_corner(strokes: Sequence[Points], rng: np.random.Generator) -> Array:
    """In a corner of the canvas, grey of one channel."""
    corner = [(8, 8), (8, 150), (150, 8), (150, 150)][rng.integers(4)]
    return on(WHITE, BLACK, ink(strokes, (250, 250), corner, 92, 9))[..., :1]


def inverted(strokes: Sequence[Points], rng: np.random.Generator) -> Array:
    """Chalk on a board."""
    return on((35, 45, 40), (235, 235, 225), ink(strokes, (300, 400), (60, 120), 170, 13))


def shaded(strokes: Sequence[Points], rng: np.random.Generator) -> Array:
    """On paper in a light that falls from one side: its dark end is as dark as a pencil at its light end."""
    y, x = np.mgrid[:320, :320] / 320
    angle = rng.uniform(0, 2 * math.pi)
    light = 165 + 110 * ((x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle))
    return on(light[..., None], 0.45 * light[..., None] * np.ones(3), ink(strokes, (320, 320), (70, 80), 170, 12))


def soft(strokes: Sequence[Points], rng: np.random.Generator) -> Array:
    """Out of focus."""
    return blurred(on((245, 245, 245), (30, 30, 30), ink(strokes, (260, 260), (50, 50), 150, 12)), 6)


def thin(strokes: Sequence[Points], rng: np.random.Generator) -> Array:
    """One pixel of a pen, on a large canvas."""
    return on(WHITE, BLACK, ink(strokes, (400, 400), (60, 60), 280, 1.5))


def thick(strokes: Sequence[Points], rng: np.random.Generator) -> Array:
    """A felt pen's end."""
    return on(WHITE, (0, 0, 120), ink(strokes, (200, 200), (40, 35), 125, 24))


def turned(strokes: Sequence[Points], rng: np.random.Generator) -> Array:
    """A little askew, in red, on nothing: four channels."""
    turn = rng.choice([-12, -8, 8, 12])
    drawn = ink(strokes, (240, 320), (50, 100), 140, 11, turn=turn)
    colour = np.broadcast_to(np.array([220, 30, 40], np.uint8), (*drawn.shape, 3))
    return np.concatenate([colour, np.rint(drawn * 255).astype(np.uint8)[..., None]], axis=2)


def photographed(strokes: Sequence[Points], rng: np.random.Generator) -> Array:
    """A blue pen on yellowish paper, by a telephone: shade, noise, a little blur, JPEG."""
    shape = (600, 800)
    y, x = np.mgrid[: shape[0], : shape[1]]
    angle = rng.uniform(0, 2 * math.pi)
    light = 0.72 + 0.3 * ((x / shape[1] - 0.5) * math.cos(angle) + (y / shape[0] - 0.5) * math.sin(angle))
    light -= 0.2 * (((x - 400) / 800) ** 2 + ((y - 300) / 600) ** 2)
    corner = rng.uniform(100, 230), rng.uniform(130, 400)
    drawn = ink(strokes, shape, corner, 215, 11, turn=rng.uniform(-8, 8))
    image = on(light[..., None] * np.array([245, 238, 215]), light[..., None] * np.array([55, 65, 140]), drawn)
    noisy = blurred(image, 1.5).astype(np.float64) + rng.normal(0, 9, (*shape, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=70)
    return np.asarray(Image.open(file))


STYLES: list[Draw] = [plain, small, in_corner, inverted, shaded, soft, thin, thick, turned, photographed]


def drawing(digit: int, hand: int, style: Draw) -> Array:
    """A digit as bytes (height, width, channels); always the same one."""
    rng = np.random.default_rng((digit, hand, STYLES.index(style)))
    return style(HANDS[hand][digit], rng)


def drawings(hands: int = len(HANDS)) -> Iterator[tuple[int, str, Array]]:
    """A drawing of each digit by each hand: the digit, the style's name and the image; each style has as many."""
    for hand in range(hands):
        for digit in range(10):
            style = STYLES[(digit + 3 * hand) % len(STYLES)]
            yield digit, style.__name__, drawing(digit, hand, style)
