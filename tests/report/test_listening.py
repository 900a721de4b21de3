"""The page of episodes: self-contained, accessible and escaped; inconsistent tables are refused."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from PIL import Image

from sonarium.report.listening import EpisodeShown, Picture, Scores, listening_page
from sonarium.report.review import review_page


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 90, 120)).save(buffer, "PNG")
    return buffer.getvalue()


def wav() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((800, 2)), 8000, format="WAV")
    return buffer.getvalue()


EPISODE = EpisodeShown(
    "Oracle: 2 of 2 found <in 9 steps>",
    (("seed", "3"), ("sounds", "phone & siren")),
    b"\x00\x00\x00\x18ftypmp42-not-a-film",
    png(1),
    wav(),
    (Picture("The way gone", "Below it the level.", png(2)), Picture("Ways of sound", "Images.", png(3))),
)
SCORES = Scores(("success", "steps"), ("share found", "until the end"), (("Oracle", ("1.00", "9.0")),), "A note.")


class Parsed(HTMLParser):
    """Tags with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str, name: str) -> list[str]:
        return [value for found, values in self.tags if found == tag and (value := values.get(name))]


@pytest.fixture
def page(tmp_path) -> Parsed:
    film_less = replace(EPISODE, title="Another", film=None)
    listening_page(
        "Agents", "A lead.", SCORES, [EPISODE, film_less], [("rate", "8000")], tmp_path / "in" / "page.html"
    )
    return Parsed((tmp_path / "in" / "page.html").read_text())


def content(uri: str) -> bytes:
    return base64.b64decode(uri.partition(";base64,")[2])


def test_every_file_is_in_it_byte_by_byte(page):
    assert [content(one) for one in page.all("video", "src")] == [EPISODE.film]
    assert [content(one) for one in page.all("video", "poster")] == [EPISODE.poster]
    assert [content(one) for one in page.all("audio", "src")] == [EPISODE.sound] * 2
    assert [content(one) for one in page.all("img", "src")] == [one.png for one in EPISODE.pictures] * 2
    kinds = {one.partition(";")[0] for tag in ("video", "audio", "img") for one in page.all(tag, "src")}
    assert kinds == {"data:video/mp4", "data:audio/wav", "data:image/png"}


def test_a_long_sound_lies_beside_the_page(tmp_path):
    path = tmp_path / "page.html"
    listening_page("Agents", "A lead.", SCORES, [replace(EPISODE, sound="random-0.wav")], [], path)
    page = Parsed(path.read_text())
    assert page.all("video", "src") and not page.all("audio", "src")
    assert any("random-0.wav" in word for word in page.words)


def test_nothing_is_fetched(page):
    for tag, values in page.tags:
        for name in ("src", "href", "poster"):
            assert (values.get(name) or "data:").startswith(("data:", "#")), (tag, values)
    (policy,) = [values["content"] for tag, values in page.tags if values.get("http-equiv")]
    assert "default-src 'none'" in str(policy) and "media-src data:" in str(policy)


def test_words_are_escaped_and_all_there(page):
    said = re.sub(r"\s+", " ", " ".join(page.words))
    for words in (EPISODE.title, "phone & siren", "1.00", "until the end", "A note.", "A lead.", "rate", "8000"):
        assert words in said
    assert "in" not in [tag for tag, _ in page.tags]


def test_it_is_for_everyone(page):
    assert all(
        len(one) > 3 for tag, key in (("img", "alt"), ("audio", "aria-label")) for one in page.all(tag, key)
    )
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    targets = page.all("section", "aria-labelledby")
    assert len(set(targets)) == len(targets) == 3
    assert {values.get("id") for tag, values in page.tags if tag == "h2"} == set(targets)


def test_names_that_are_no_text_are_marked(tmp_path):
    listening_page("caf\udce9", "A lead.", SCORES, [], [], tmp_path / "page.html")
    review_page("caf\udce9", "A lead.", [], tmp_path / "review.html")
    for name in ("page", "review"):
        assert "caf?" in (tmp_path / f"{name}.html").read_text(encoding="utf-8")


def test_rows_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one value for each"):
        listening_page("A", "", replace(SCORES, rows=(("Oracle", ("1",)),)), [], [], tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
