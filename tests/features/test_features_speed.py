"""The benchmark of the front end: its rows and their ratios."""

from sonarium.bench.features import cases


def test_rows_of_the_benchmark():
    rows = cases(repeats=1)
    assert all(set(row) == {"name", "work", "ours_s", "peer", "peer_s", "ratio"} for row in rows)
    assert all(row["ratio"] == row["peer_s"] / row["ours_s"] > 0 for row in rows)
    names = [row["name"] for row in rows]
    assert "mel" in names and any("stft" in name for name in names)
