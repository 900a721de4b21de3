"""The configuration of Seek: invalid values are refused with a message that names valid ones."""

import math
from dataclasses import fields

import pytest
from typechecking import unchecked

from sonarium.commands.flags import parse
from sonarium.rooms.seek.config import SOUNDS, SeekConfig, configured
from sonarium.rooms.seek.reward import REWARDS, Reward
from sonarium.rooms.seek.synthesis import VOICES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": 0}, "sources=0: give a whole number from 1 to 8"),
        ({"sources": 9}, "sources=9"),
        ({"absorption": 1.2}, r"absorption=1\.2: give a number from 0 to 1"),
        ({"absorption": -0.1}, "absorption"),
        ({"absorption": math.nan}, "absorption=nan"),
        ({"absorption": 0.9, "absorption_span": 0.2}, "narrow the span"),
        ({"rt60": 0.3, "order": 20, "absorption_span": 0.1}, "changes nothing: leave one of them out"),
        ({"radius": 0.4, "step": 1.0}, "half of step"),
        ({"start_distance": 0.5}, "start farther away"),
        ({"step": math.inf}, "step=inf"),
        ({"rate": 100}, "rate=100"),
        ({"order": -1}, "order=-1"),
        ({"order": 2.5}, "order=2.5: give a whole number"),
        ({"smallest": 8.0, "largest": 7.0}, "largest=7"),
        ({"loop": 0.2}, "lengthen the loop"),
        ({"size": (0.2, 4.0)}, "a head fits in"),
        ({"size": (math.nan, 4.0)}, "size=.*give a positive number up to 10000"),
        ({"largest": 1e6}, "largest=1000000.0: give a number from 0.5 to 10000"),
        ({"largest": 5000}, "order=3 reaches 15000 m, .* or a larger longest_response"),
        ({"height": 1e308}, r"height=1e\+308: give a number from 0.1 to 10000"),
        ({"max_steps": 10**29}, "max_steps=1000.*: give a whole number from 1"),
        ({"variants": 1000, "loop": 600.0}, "or fewer variants"),
        ({"corners": ((0, 0), (4, 0), (4, 4))}, "room='fixed'"),
        ({"height": 2.0, "ear_height": 2.5}, "ear_height=2.5"),
        ({"room": "cave"}, "room='cave': choose one of fixed, shoebox"),
        ({"actions": "fly"}, "actions='fly'"),
        ({"clock": "tape"}, "clock='tape'"),
        ({"reward": "gold"}, "reward='gold'"),
        ({"sounds": ()}, "give a tuple"),
        ({"sounds": "phone"}, "give a tuple"),
        ({"threads": 0}, "threads=0"),
        ({"colour": "red"}, "SeekConfig has no field 'colour'"),
        ({"source": 2}, "did you mean 'sources'"),
    ],
)
def test_refusals_name_the_field_and_the_remedy(changes, message):
    with unchecked(), pytest.raises(ValueError, match=message):
        configured(None, changes)


def test_changes_replace_fields_of_a_given_configuration():
    config = configured(SeekConfig(sources=3, step=0.4), {"step": 0.3})
    assert (config.sources, config.step) == (3, 0.3)


def test_windows_last_a_step_of_a_stream_or_the_whole_clip():
    assert SeekConfig(rate=8000, seconds=0.25).window == 2000
    assert SeekConfig(rate=8000, clock="clip", loop=3.0).window == 24000


def test_extent_bounds_fixed_and_random_rooms():
    assert SeekConfig(room="fixed", size=(3.0, 9.0)).extent == 9
    assert SeekConfig(room="fixed", corners=((-12, 0), (4, 0), (4, 4))).extent == 12
    assert SeekConfig(room="ngon", largest=7.0).extent == 7


def test_a_room_is_as_large_wherever_it_lies():
    away = ((1000, 1000), (1005, 1000), (1005, 1004), (1000, 1004))
    assert SeekConfig(room="fixed", corners=away, order=20).longest == 5
    assert SeekConfig(room="fixed", size=(3.0, 9.0)).longest == 9
    assert SeekConfig(room="ngon", largest=7.0).longest == 7


def test_every_built_in_sound_is_a_default():
    assert set(SOUNDS) == set(VOICES)


def test_every_field_has_its_sentence_and_is_a_flag(capsys):
    config = parse(
        SeekConfig, ["--sources", "3", "--room", "ngon", "--no-new-sounds", "--threads", "2"], "play", ""
    )
    assert (config.sources, config.room, config.new_sounds, config.threads) == (3, "ngon", False, 2)
    with pytest.raises(SystemExit):
        parse(SeekConfig, ["--help"], "play", "")
    said = capsys.readouterr().out
    for field in fields(SeekConfig):
        assert field.name in ("figures", "ears") or f"--{field.name.replace('_', '-')}" in said, field.name


def test_otoworlds_figures_are_exact():
    assert REWARDS["otoworld"] == Reward(step=-0.5, rotation=-0.1, found=100, closeness=1, progress=0, gamma=1)
    assert REWARDS["document"] == Reward(step=-0.1, rotation=0, found=10, closeness=0, progress=0, gamma=1)


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"gamma": 1.1}, {"step": math.nan}, {"found": math.inf}])
def test_rewards_refuse_figures_that_are_none(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Reward(**wrong)


def test_other_figures_replace_the_named_ones():
    mine = Reward(step=-1.0)
    assert SeekConfig(reward="otoworld", figures=mine).paid is mine
    assert SeekConfig(reward="otoworld").paid is REWARDS["otoworld"]
