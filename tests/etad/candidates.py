"""Random candidates for soft-NMS."""

from hypothesis import strategies as st


@st.composite
def candidates(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[float]]:
    # Coarse numbers, so that equal ends, nesting and touching are common.
    ends = st.tuples(st.integers(0, 40), st.integers(0, 40)).filter(lambda pair: pair[0] != pair[1])
    segments = draw(st.lists(ends, min_size=1, max_size=25))
    scores = draw(st.lists(st.floats(0.001, 1.0), min_size=len(segments), max_size=len(segments), unique=True))
    return [(min(pair) / 4, max(pair) / 4) for pair in segments], scores
