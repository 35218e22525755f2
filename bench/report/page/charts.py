"""Charts as inline SVG: drawn for print and screens, for light and dark, and for eyes that tell few colours apart.

Text and axes are in ``currentColor``; a series has the class ``s0`` .. ``s7``, whose colour ``--s`` the page sets.
Every series is named beside its line, and the kind of a result is its shape: a filled circle is measured, an open
diamond predicted, an open triangle published. Every mark tells its numbers when it is pointed at.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bench.records.record import Kind

WIDTH = 430
HEIGHT = 300
SERIES = 8
"""So many colours there are; a chart with more series is not readable."""
FONT = 12.5
LETTER = 0.53 * FONT
"""Mean width of a letter, on the generous side: labels are placed without knowing the font."""
LINE = 15.0
LOG_FROM = 20.0
"""Largest over smallest value from which an axis is logarithmic."""

Show = Callable[[float], str]


@dataclass(frozen=True)
class Point:
    """A point of a curve; ``low`` and ``high`` bound it where there is an interval or a spread."""

    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Series:
    """A curve with its name."""

    label: str
    kind: Kind
    points: Sequence[Point]


@dataclass(frozen=True)
class Mark:
    """A point of a scatter chart.

    Attributes:
        label: written beside it if there is room.
        text: said when it is pointed at.
        series: number of its colour.
    """

    x: float
    y: float
    label: str
    text: str
    kind: Kind
    series: int = 0


@dataclass(frozen=True)
class Limit:
    """A line across a scatter chart, with its name at its last point."""

    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Range:
    """A row of a range chart."""

    label: str
    low: float
    high: float
    kind: Kind
    text: str


@dataclass(frozen=True)
class Bar:
    """A row of a chart of stacked bars: name and size of every part, largest first."""

    label: str
    parts: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Axis:
    """From values to pixels."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return where ``value`` lies."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self.low)))
        return self.start + (self.stop - self.start) * (at - low) / (high - low)

    def ticks(self) -> list[float]:
        """Return round values inside the axis."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if math.log10(self.high / self.low) < 2.5 else (1,)
            candidates = [step * 10.0**decade for decade in decades for step in steps]
            inside = [tick for tick in candidates if self.low * 0.999 <= tick <= self.high * 1.001]
            return inside[:: math.ceil(len(inside) / 8)]
        step = _round_step((self.high - self.low) / 4)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def curve_chart(
    ident: str, title: str, x_title: str, y_title: str, series: Sequence[Series], may_be_log: bool = True
) -> Markup:
    """Draw curves over ratios from 0 to 1, each named at its end."""
    labels = [_wrapped(one.label, 20) for one in series]
    margin = max(len(line) for lines in labels for line in lines) * LETTER + 26
    values = [bound for one in series for point in one.points for bound in (point.low, point.high)]
    xs = sorted({point.x for one in series for point in one.points})
    x_axis = Axis(0.0, max(1.0, xs[-1]), 52, WIDTH - margin)
    y_axis = _value_axis(values, HEIGHT - 46, 34, may_be_log)
    parts = [
        _grid(y_axis, x_axis),
        _x_axis(x_axis, _apart(xs, x_axis, 30), HEIGHT - 46),
        _titles(x_title, y_title, y_axis.log, x_axis),
    ]
    ends = [(one.points[-1].x, one.points[-1].y) for one in series]
    heights = _pushed_apart([y_axis(y) for _, y in ends], [len(lines) * LINE for lines in labels], 24, HEIGHT - 34)
    for number, (one, lines, (end_x, end_y), height) in enumerate(zip(series, labels, ends, heights, strict=True)):
        points = [(x_axis(point.x), y_axis(point.y)) for point in one.points]
        drawn = Markup("").join(
            [
                # Bars of several series stand side by side.
                _spread(one.points, x_axis, y_axis, (number - (len(series) - 1) / 2) * 3),
                _polyline(points, "line" if one.kind == "measured" else "line dashed"),
                Markup("").join(
                    _marker(one.kind, x, y, f"{one.label}: {point.text}")
                    for (x, y), point in zip(points, one.points, strict=True)
                ),
                _leader(x_axis(end_x) + 6, y_axis(end_y), x_axis.stop + 12, height),
            ]
        )
        parts.append(Markup('<g class="s{}">{}</g>').format(number % SERIES, drawn))
        parts.append(_lines(lines, x_axis.stop + 16, height - (len(lines) - 1) * LINE / 2 + 4))
    return _svg(ident, title, f"{y_title} against {x_title}: {'; '.join(one.label for one in series)}", HEIGHT, parts)


def scatter_chart(
    ident: str,
    title: str,
    x_title: str,
    y_title: str,
    marks: Sequence[Mark],
    limits: Sequence[Limit] = (),
    front: Sequence[tuple[float, float]] = (),
    log_y: bool = False,
) -> Markup:
    """Draw marks over a logarithmic x axis, with limits (lines) and a front (steps) behind them."""
    xs = [mark.x for mark in marks]
    ys = [mark.y for mark in marks]
    right = WIDTH - 18
    x_axis = Axis(*_log_bounds([*xs, *(x for limit in limits for x, _ in limit.points)]), 52, right, log=True)
    if log_y:
        tops = [y for limit in limits for _, y in limit.points]
        y_axis = Axis(*_log_bounds([*ys, *tops]), HEIGHT - 46, 34, log=True)
    else:
        spread = max(max(ys) - min(ys), 1.0)
        y_axis = Axis(max(0.0, min(ys) - 0.15 * spread), max(ys) + 0.15 * spread, HEIGHT - 46, 34)
    parts = [
        _grid(y_axis, x_axis),
        _x_axis(x_axis, _apart(x_axis.ticks(), x_axis, 34), HEIGHT - 46),
        _titles(f"{x_title} (log)", y_title, log_y, x_axis),
    ]
    taken = [(x_axis(mark.x) - 5, y_axis(mark.y) - 5, x_axis(mark.x) + 5, y_axis(mark.y) + 5) for mark in marks]
    for limit in limits:
        pixels = [(x_axis(x), y_axis(y)) for x, y in limit.points]
        parts.append(_polyline(pixels, "limit"))
        x, y = pixels[-1]
        text = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="end" class="small">{}</text>')
        parts.append(text.format(x, y - 5, limit.label))
        taken.append((x - len(limit.label) * LETTER, y - 5 - FONT, x, y))
    if len(front) > 1:
        parts.append(_polyline(_steps([(x_axis(x), y_axis(y)) for x, y in front]), "front"))
    shapes, labels = [], []
    for mark in sorted(marks, key=lambda mark: ((mark.x, mark.y) not in front, -mark.y)):
        x, y = x_axis(mark.x), y_axis(mark.y)
        shape = _marker(mark.kind, x, y, mark.text)
        shapes.append(Markup('<g class="s{}">{}</g>').format(mark.series % SERIES, shape))
        labels.append(_beside(mark.label, x, y, taken, x_axis.start, right))
    parts += [*labels, *shapes]
    return _svg(ident, title, f"{y_title} against {x_title}, {len(marks)} results", HEIGHT, parts)


def range_chart(ident: str, title: str, x_title: str, rows: Sequence[Range], ticks: Sequence[float]) -> Markup:
    """Draw rows from low to high over a logarithmic axis, whose ticks have a meaning of their own."""
    top, row_height = 12.0, 38.0
    bottom = top + len(rows) * row_height + 4
    bounds = [*(bound for row in rows for bound in (row.low, row.high)), *ticks]
    x_axis = Axis(min(bounds) / 1.15, max(bounds) * 1.15, 0, WIDTH - 4, log=True)
    # Below the first tick, powers of ten tell where one is.
    first = min(ticks, default=x_axis.high)
    small = [10.0**power for power in range(-4, 5) if x_axis.low <= 10.0**power <= first / 1.5]
    inside = _apart([tick for tick in ticks if x_axis.low <= tick <= x_axis.high], x_axis, 26)
    line = Markup('<line x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}" class="grid"/>')
    parts = [line.format(x_axis(tick), top, bottom) for tick in inside]
    parts.append(_x_axis(x_axis, _apart([*small, *inside], x_axis, 26), bottom))
    for number, row in enumerate(rows):
        text_y = top + number * row_height + 14
        low, high = x_axis(row.low), max(x_axis(row.high), x_axis(row.low) + 4.0)
        bar = Markup(
            '<g class="s0"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="9" rx="2" class="{}">'
            "<title>{}</title></rect></g>"
        )
        parts.append(bar.format(low, text_y + 6, high - low, row.kind, f"{row.label}: {row.text}"))
        parts.append(Markup('<text x="0" y="{:.1f}" class="over">{}</text>').format(text_y, _cut(row.label, 62)))
        fits = high + 8 + len(row.text) * LETTER <= WIDTH
        value = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="value over">{}</text>')
        at, anchor = (high + 8, "start") if fits else (low - 8, "end")
        parts.append(value.format(at, text_y + 14.5, anchor, row.text))
    parts.append(Markup('<text x="0" y="{:.1f}" class="title">{}</text>').format(bottom + 38, x_title))
    return _svg(ident, title, f"{x_title} of {len(rows)} settings", bottom + 46, parts)


def stacked_bars(ident: str, title: str, bars: Sequence[Bar], names: Sequence[str], show: Show) -> Markup:
    """Draw each bar in full width, its parts as shares; parts too small for their name are listed below the bar.

    Args:
        ident, title: of the drawing.
        bars: one row each.
        names: of all parts of this and of drawings beside it; a part's colour is its place among them.
        show: gives a size as text.
    """
    colour = {name: number % SERIES for number, name in enumerate(names)}
    y, parts = 4.0, []
    for bar in bars:
        total = sum(size for _, size in bar.parts) or 1.0
        value = Markup('<text x="{}" y="{:.1f}" text-anchor="end" class="value">{}</text>')
        parts.append(value.format(WIDTH, y + 12, show(total)))
        for number, line in enumerate(_wrapped(bar.label, 52)):
            y += LINE if number else 0
            parts.append(Markup('<text x="0" y="{:.1f}">{}</text>').format(y + 12, line))
        x, small = 0.0, []
        for name, size in bar.parts:
            share = size / total
            width, text = WIDTH * share, f"{name} {share:.0%}"
            box = Markup(
                '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="26" class="part"><title>{}</title></rect>'
            ).format(x, y + 19, max(width, 0.5), f"{name}: {show(size)}, {share:.1%}")
            parts.append(Markup('<g class="s{}">{}</g>').format(colour[name], box))
            if len(text) * LETTER + 10 <= width:
                parts.append(Markup('<text x="{:.1f}" y="{:.1f}" class="inside">{}</text>').format(x + 6, y + 36, text))
            elif share >= 0.0005:
                small.append(f"{name} {share:.1%}")
            x += width
        y += 46
        if small:
            for line in _wrapped("then " + ", ".join(small), 68):
                y += LINE
                parts.append(Markup('<text x="0" y="{:.1f}" class="small">{}</text>').format(y, line))
        y += 16
    return _svg(ident, title, f"Shares of {', '.join(names)}", y, parts)


def _svg(ident: str, title: str, description: str, height: float, parts: Iterable[Markup]) -> Markup:
    frame = Markup(
        '<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-labelledby="{ident}-t {ident}-d">'
        '<title id="{ident}-t">{title}</title><desc id="{ident}-d">{description}</desc>{body}</svg>'
    )
    body = Markup("").join(parts)
    return frame.format(width=WIDTH, height=height, ident=ident, title=title, description=description, body=body)


def _value_axis(values: Sequence[float], start: float, stop: float, may_be_log: bool) -> Axis:
    """Return the axis of a quantity: from 0 on, or logarithmic where the values lie far apart."""
    if may_be_log and min(values) > 0 and max(values) / min(values) > LOG_FROM:
        return Axis(*_log_bounds(values), start, stop, log=True)
    top = max(values) or 1.0
    step = _round_step(top / 4)
    return Axis(0.0, step * math.ceil(top / step - 1e-9), start, stop)


def _log_bounds(values: Sequence[float]) -> tuple[float, float]:
    """Return the nearest 1, 2 or 5 times a power of ten around the values."""
    return _round_number(min(values), below=True), _round_number(max(values) * 1.02, below=False)


def _round_number(value: float, below: bool) -> float:
    decade = math.floor(math.log10(value))
    around = [step * 10.0**power for power in (decade - 1, decade, decade + 1) for step in (1, 2, 5)]
    if below:
        return max(number for number in around if number <= value * 0.98)
    return min(number for number in around if number >= value)


def _round_step(rough: float) -> float:
    decade = 10.0 ** math.floor(math.log10(rough))
    return next(step * decade for step in (1, 2, 2.5, 5, 10) if step * decade >= rough * 0.999)


def _short(value: float) -> str:
    """Return a number with few digits: "0.05", "20", "1e+12" as "1T"."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _grid(y_axis: Axis, x_axis: Axis) -> Markup:
    line = Markup(
        '<line x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        '<text x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>'
    )
    return Markup("").join(
        line.format(x_axis.start, x_axis.stop, x_axis.start - 8, y_axis(tick) + 4, _short(tick), y=y_axis(tick))
        for tick in y_axis.ticks()
    )


def _x_axis(axis: Axis, ticks: Sequence[float], y: float) -> Markup:
    line = Markup('<line x1="{:.1f}" x2="{:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="axis"/>')
    tick = Markup(
        '<line x1="{x:.1f}" x2="{x:.1f}" y1="{:.1f}" y2="{:.1f}" class="axis"/>'
        '<text x="{x:.1f}" y="{:.1f}" text-anchor="middle">{}</text>'
    )
    drawn = [tick.format(y, y + 4, y + 18, _short(value), x=axis(value)) for value in ticks]
    return Markup("").join([line.format(axis.start, axis.stop, y=y), *drawn])


def _titles(x_title: str, y_title: str, is_log: bool, x_axis: Axis) -> Markup:
    text = Markup('<text x="{:.1f}" y="{:.1f}" class="title" text-anchor="{}">{}</text>')
    above = text.format(4, 14, "start", y_title + (" (log)" if is_log else ""))
    return above + text.format(x_axis.start, HEIGHT - 8, "start", x_title)


def _spread(points: Sequence[Point], x_axis: Axis, y_axis: Axis, shift: float) -> Markup:
    bar = Markup(
        '<path d="M{x:.1f} {low:.1f}V{high:.1f}M{left:.1f} {low:.1f}h8M{left:.1f} {high:.1f}h8" class="spread"/>'
    )
    return Markup("").join(
        bar.format(x=x, left=x - 4, low=y_axis(point.low), high=y_axis(point.high))
        for point in points
        for x in [x_axis(point.x) + shift]
        if point.low < point.high
    )


def _polyline(points: Sequence[tuple[float, float]], style: str) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline points="{}" class="{}"/>').format(path, style)


def _marker(kind: Kind, x: float, y: float, text: str) -> Markup:
    """Return the shape of a kind: circle, diamond or triangle."""
    if kind == "measured":
        shape = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" class="measured">').format(x, y)
        return shape + Markup("<title>{}</title></circle>").format(text)
    outline = (
        "M{x:.1f} {top:.1f}l5.2 5.2l-5.2 5.2l-5.2 -5.2z" if kind == "predicted" else "M{x:.1f} {top:.1f}l5.4 9.2h-10.8z"
    )
    path = outline.format(x=x, top=y - (5.2 if kind == "predicted" else 5.6))
    return Markup('<path d="{}" class="{}"><title>{}</title></path>').format(path, kind, text)


def _leader(x: float, y: float, to_x: float, to_y: float) -> Markup:
    if to_x - x < 14 and abs(to_y - y) < 5:
        return Markup("")
    return _polyline([(x, y), (to_x - 8, to_y), (to_x, to_y)], "leader")


def _lines(lines: Sequence[str], x: float, y: float) -> Markup:
    spans = Markup("").join(
        Markup('<tspan x="{:.1f}" y="{:.1f}">{}</tspan>').format(x, y + number * LINE, line)
        for number, line in enumerate(lines)
    )
    return Markup("<text>{}</text>").format(spans)


Box = tuple[float, float, float, float]


def _beside(text: str, x: float, y: float, taken: list[Box], left: float, right: float) -> Markup:
    """Write ``text`` where it hides nothing, near its mark, or not at all; the mark still tells it."""
    text = _cut(text, 30)
    width = len(text) * LETTER
    places = [
        (x + 9, y + 4, "start"),
        (x - 9, y + 4, "end"),
        (x, y - 10, "middle"),
        (x, y + 19, "middle"),
        (x + 7, y - 8, "start"),
        (x - 7, y - 8, "end"),
        (x + 7, y + 16, "start"),
        (x - 7, y + 16, "end"),
    ]
    for at_x, at_y, anchor in places:
        start = at_x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        box = (start, at_y - FONT + 2, start + width, at_y + 3)
        if box[0] < left or box[2] > right + 10 or box[1] < 20 or box[3] > HEIGHT - 47:
            continue
        if not any(_overlap(box, other) for other in taken):
            taken.append(box)
            return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="small over">{}</text>').format(
                at_x, at_y, anchor, text
            )
    return Markup("")


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return a front as steps: no result lies between two of its points."""
    corners = [(after[0], before[1]) for before, after in itertools.pairwise(points)]
    return [*(point for pair in zip(points, corners, strict=False) for point in pair), points[-1]]


def _apart(values: Iterable[float], axis: Axis, least: float) -> list[float]:
    """Return the values that lie at least so many pixels apart; the last one always stays."""
    ordered = sorted(values, reverse=True)
    chosen: list[float] = []
    for value in ordered:
        if not chosen or axis(chosen[-1]) - axis(value) >= least:
            chosen.append(value)
    return chosen[::-1]


def _pushed_apart(centres: Sequence[float], heights: Sequence[float], top: float, bottom: float) -> list[float]:
    """Return centres of labels that do not overlap, in their order, moved as little as is easily had."""
    order = sorted(range(len(centres)), key=lambda number: centres[number])
    placed = list(centres)
    edge = top
    for number in order:
        placed[number] = max(centres[number], edge + heights[number] / 2)
        edge = placed[number] + heights[number] / 2
    edge = bottom
    for number in reversed(order):
        placed[number] = min(placed[number], edge - heights[number] / 2)
        edge = placed[number] - heights[number] / 2
    return placed


def _wrapped(text: str, width: int) -> list[str]:
    """Return ``text`` in lines of at most ``width`` letters, broken after commas and blanks."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [_cut(line, max(width, 24)) for line in lines]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
