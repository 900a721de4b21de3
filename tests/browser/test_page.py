"""The page in Chromium without a network: it fits, every picture is decoded, every sound can be played."""

import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, sync_playwright

from sonarium.features.spectrogram import Spectrogram, SpectrogramConfig
from sonarium.models.vae import VAE, VAEConfig
from sonarium.report.media import illustrate
from sonarium.report.page import RunPage, page
from sonarium.worlds.tones.world import Tones, TonesConfig

CHROMIUM = shutil.which("chromium")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (the Debian package chromium)")


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    grid = TonesConfig(rate=4000, seconds=0.5, frequencies=7, amplitudes=5, lowest=200, highest=1500)
    world = Tones(grid, seed=0)
    front = SpectrogramConfig(fft=256, hop=64, mels=20)
    torch.manual_seed(0)
    learner = VAE(VAEConfig(latent=4, network="dense", front=front), world.signal)
    assert isinstance(learner.front, Spectrogram)
    learner.front.fit([world.whole(torch.arange(len(world))).signal])
    illustrate(learner, world, torch.arange(len(world)), folder / "media", 0)
    runs = [run(folder / "media", model, seed) for model, seed in (("vae", 0), ("vae", 1), ("tc-vae", 0))]
    page(runs, folder / "page.html")
    return folder / "page.html"


def run(media: Path, model: str, seed: int) -> RunPage:
    scores = {
        name: 0.4 + 0.1 * seed + 0.01 * len(model)
        for name in ("mig", "sap", "dci_disentanglement", "explicitness")
    }
    controls = {name: dict.fromkeys(scores, 0.1) for name in ("pca", "random", "chance")}
    return RunPage(
        name=f"a-run-with-{'a-very-' * 12}long-name-{model}-{seed}",
        model=model,
        world="tones",
        config={"model": model, "fit": {"seed": seed}, "path": "/somewhere" * 30},
        environment={"device": "cpu"},
        metrics=[{"step": float(step), "loss/total": 1 / step, "penalty/kl": step} for step in range(1, 9)],
        scores={"protocol": "standard", "step": 8, "clips": 40, "scores": scores, "controls": controls},
        media=media,
        warnings=("one thing",) if seed else (),
    )


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET])
        yield started
        started.close()


def opened(browser: Browser, file: Path, width: int, scheme) -> tuple[Page, list[str]]:
    """The page, with all requests but its own blocked, and the messages, errors and blocked requests."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, java_script_enabled=True
    )
    complaints: list[str] = []

    def judge(route):
        url = route.request.url
        if url == file.as_uri() or url.startswith("data:"):
            route.continue_()
        else:
            complaints.append(f"asked for {url}")
            route.abort()

    context.route("**/*", judge)
    tab = context.new_page()
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(file.as_uri())
    return tab, complaints


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_width_and_scheme(browser, file, width, scheme):
    tab, complaints = opened(browser, file, width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    pale = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (pale == "rgb(246, 247, 249)") == (scheme == "light")
    assert complaints == []
    tab.context.close()


def test_every_picture_is_seen_and_every_sound_can_be_played(browser, file):
    tab, complaints = opened(browser, file, 1280, "light")
    # Wait for decoding here, since the page has no script.
    widths = tab.evaluate(
        "Promise.all([...document.images].map(one => one.decode().then(() => one.naturalWidth)))"
    )
    assert len(widths) >= 16
    assert min(widths) > 0
    durations = tab.evaluate(
        """Promise.all([...document.querySelectorAll('audio')].map(one => one.readyState > 0 ? one.duration
           : new Promise((done, failed) => {
               one.onloadedmetadata = () => done(one.duration); one.onerror = () => failed(one.error.message);
               one.load(); })))"""
    )
    assert len(durations) >= 32
    assert min(durations) > 0.4
    assert complaints == []
    tab.context.close()


def test_it_is_for_everyone(browser, file):
    tab, _ = opened(browser, file, 1280, "light")
    assert tab.evaluate("[...document.images].every(one => one.alt.length > 3)")
    assert tab.evaluate("[...document.querySelectorAll('audio')].every(one => one.ariaLabel.length > 3)")
    anchors = "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))"
    assert tab.evaluate(f"{anchors}.every(id => document.getElementById(id))")
    levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    tab.emulate_media(reduced_motion="reduce")
    assert tab.locator(".animation").first.is_hidden()
    tab.context.close()


def contrast(first: list[float], second: list[float]) -> float:
    """Contrast ratio as in the Web Content Accessibility Guidelines 2."""

    def luminance(colour: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_told_from_its_ground(browser, file, scheme):
    tab, _ = opened(browser, file, 1280, scheme)
    pairs = tab.evaluate(
        """[...document.querySelectorAll('p, small, th, td, dt, dd, a, figcaption, li, h1, h2, h3, summary')]
        .map(one => { let ground = one;
            while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
            const read = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
            return [read(getComputedStyle(one).color), read(getComputedStyle(ground).backgroundColor)]; })"""
    )
    assert min(contrast(ink, ground) for ink, ground in pairs) >= 4.5
    tab.context.close()
