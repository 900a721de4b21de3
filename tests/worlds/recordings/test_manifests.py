"""Manifests: a row per clip, with times, labels and groups, under various column names."""

import pytest
from worlds.recordings.listings import by_name, listed, table, touch

ROWS = [
    ["path", "start", "stop", "call", "group", "gain"],
    ["x y.wav", "0.5", "1.25", "trill", "ann", "0.5"],
    ["sub/ü.flac", "", "", "buzz", "bob", "0.25"],
    ["x y.wav", "", "0.5", "buzz", "ann", "1.5"],
]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "semicolons.csv"])
def test_a_manifest_has_a_line_for_each_clip(ending, tmp_path):
    path = tmp_path / f"list.{ending}"
    if ending == "parquet":
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = {name: list(values) for name, *values in zip(*ROWS, strict=True)}
        times = {
            name: [float(text) if text else None for text in columns[name]] for name in ("start", "stop", "gain")
        }
        parquet.write_table(arrow.table(columns | times), path)
    else:
        table(path, *ROWS, delimiter={"tsv": "\t", "csv": ","}.get(ending, ";"))
    listing = listed(path)
    assert (listing.layout, listing.factors, listing.group) == ("manifest", ("call", "group"), "group")
    assert [(str(row.path.relative_to(tmp_path)), row.start, row.stop) for row in listing.rows] == [
        ("x y.wav", 0.5, 1.25),
        ("sub/ü.flac", 0.0, None),
        ("x y.wav", 0.0, 0.5),
    ]
    assert [row.labels["call"] for row in listing.rows] == ["trill", "buzz", "buzz"]


def test_a_manifest_lies_in_its_folder_under_its_name(tmp_path):
    table(tmp_path / "manifest.csv", ["file", "speaker"], ["clips/1.wav", "ann"])
    listing = listed(tmp_path)
    assert listing.rows[0].path == tmp_path / "clips" / "1.wav"
    assert listing.group == "speaker"


@pytest.mark.parametrize("name", ["Speaker", "BIRD", "Client_ID"])
def test_groups_are_known_in_letters_of_any_size(name, tmp_path):
    table(tmp_path / "m.csv", ["Path", "Start", "Stop", name], ["1.wav", "0", "1", "ann"])
    assert listed(tmp_path / "m.csv").group == name
    touch(tmp_path / "sounds", "ann/1.wav")
    assert listed(tmp_path / "sounds", pattern=f"{{{name}}}/{{take}}.wav").group == name


@pytest.mark.parametrize(
    ("heading", "times", "expected"),
    [
        ("stop", "2", (0.0, 2.0)),
        ("End_S", "2", (0.0, 2.0)),
        ("start,duration", "1,2", (1.0, 3.0)),
        ("onset,offset", "1,2", (1.0, 2.0)),
        ("offset,duration", "1,2", (1.0, 3.0)),
        ("duration", "2", (0.0, 2.0)),
        ("start,stop,duration", "1,3,2.004", (1.0, 3.0)),
        ("start,stop,duration", "1,,2", (1.0, 3.0)),
        ("start,stop,duration", ",,", (0.0, None)),
    ],
)
def test_times_in_a_manifest_are_read_by_all_their_names(heading, times, expected, tmp_path):
    (tmp_path / "m.csv").write_text(f"path,{heading},label\na.wav,{times},x\n")
    (row,) = listed(tmp_path / "m.csv").rows
    assert (row.start, row.stop, row.labels) == (*expected, {"label": "x"})


@pytest.mark.parametrize(
    ("heading", "times", "reason"),
    [
        ("offset", "1", "has 'offset' and no start: name it start or stop"),
        ("start,onset,stop", "1,1,2", "has times under start, stop, and again under onset"),
        ("start,end,offset", "1,2,3", "has times under end, start, and again under offset"),
        ("start,stop,duration", "1,3,3", "goes from 1 to 3 s in its line 2, and lasts 3 s there"),
    ],
)
def test_times_that_would_go_unread_are_refused(heading, times, reason, tmp_path):
    (tmp_path / "m.csv").write_text(f"path,{heading},label\na.wav,{times},x\n")
    with pytest.raises(ValueError, match=reason):
        listed(tmp_path / "m.csv")


def test_blanks_around_values_are_no_part_of_them(tmp_path):
    (tmp_path / "m.csv").write_text('path, label\n a/f0.wav, dog\na/f1.wav ,dog \n"f2.wav", "dog, big"\n')
    assert by_name(listed(tmp_path / "m.csv"), tmp_path) == {
        "a/f0.wav": {"label": "dog"}, "a/f1.wav": {"label": "dog"}, "f2.wav": {"label": "dog, big"}
    }  # fmt: skip


def test_a_row_of_parquet_is_told_by_its_number(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table({"path": ["a.wav", None]}), tmp_path / "m.parquet")
    with pytest.raises(ValueError, match="has no path under 'path' in its row 2"):
        listed(tmp_path / "m.parquet")


def test_a_clip_that_is_told_twice_is_remarked_with_what_contradicts(tmp_path):
    rows = [["a.wav", "x"], ["a.wav", "y"], ["b.wav", "y"], ["c.wav", "x"], ["c.wav", "x"]]
    table(tmp_path / "m.csv", ["path", "label"], *rows)
    found = listed(tmp_path / "m.csv")
    assert len(found.rows) == 5
    assert [(fault.path.name, fault.reason) for fault in found.remarks] == [
        ("a.wav", "2 lines are about this clip, and do not agree on its label; leave one of them"),
        ("c.wav", "2 lines are about this clip; leave one of them"),
    ]


def test_columns_with_the_names_of_groups_are_left_out(tmp_path):
    touch(tmp_path, "a.wav", "b.wav")
    table(tmp_path / "m.csv", ["path", "file", "label"], ["a.wav", "wav", "x"], ["b.wav", "wav", "y"])
    listing = listed(tmp_path / "m.csv")
    assert [dict(row.labels) for row in listing.rows] == [{"label": "x"}, {"label": "y"}]
    assert ["column 'file' is left out" in remark.reason for remark in listing.remarks] == [True]


def test_columns_that_measure_are_no_labels(tmp_path):
    rows = [[f"{at}.wav", str(at), f"{at / 7:.3f}", str(at % 3), "16000"] for at in range(60)]
    table(tmp_path / "m.csv", ["path", "number", "seconds", "kind", "rate"], *rows)
    assert listed(tmp_path / "m.csv").factors == ("kind",)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([["path", "label"]], "has no rows"),
        ([["name", "label"], ["a.wav", "x"]], "columns name, label, and none called path"),
        ([["path", "start"], ["a.wav", "soon"]], "'soon' under 'start' in its line 2"),
        ([["path", "start"], ["a.wav", "nan"]], "'nan' under 'start' in its line 2"),
        ([["path", "path"], ["a.wav", "x"]], "names a column twice"),
        ([["path", "label", " label"], ["a.wav", "x", "y"]], "names a column twice"),
        ([["path", "start"], ["a.wav", "1"], [], ["b.wav", "soon"]], "'soon' under 'start' in its line 4"),
        ([["path", "text"], ["a.wav", "two\nlines"], ["b.wav"]], "has 1 fields in its line 4"),
        ([["path", "label"], ["a.wav", "x"], [" ", "y"]], "has no path under 'path' in its line 3"),
        ([["path", "label"], ["a.wav"]], "has 1 fields in its line 2, its heading has 2"),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_refused(rows, reason, tmp_path):
    table(tmp_path / "m.csv", *rows)
    with pytest.raises(ValueError, match=reason):
        listed(tmp_path / "m.csv")
