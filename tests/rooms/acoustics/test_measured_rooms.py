"""Against measurements: a known room (dEchorate), a sports hall (Open AIR), an anechoic head (Surrey)."""

import numpy as np
import pytest
from rooms import measured


def test_direct_sound_and_first_echoes_arrive_when_they_were_heard(shared_data):
    direct, echoes = measured.echo_errors(shared_data)
    assert direct.shape == (60,) and echoes.shape == (60, 6)
    assert np.median(np.abs(direct)) < 0.05
    assert np.median(np.abs(echoes)) <= 0.2


def test_responses_peak_where_measured_ones_do(shared_data):
    late = measured.peak_errors(shared_data)
    assert len(late) == 12 and np.median(np.abs(late)) <= 0.2


def test_the_reverberation_of_a_measured_room_is_read_right(shared_data):
    times = measured.dechorate_decays(shared_data)
    assert len(times) == 12 and times == pytest.approx(measured.DECHORATE_T30, rel=0.1)


@pytest.mark.parametrize("measure", ["t30", "edt"])
def test_the_reverberation_of_a_hall_is_read_right(shared_data, measure):
    expected, found = measured.hall_decays(shared_data)[measure]
    assert found == pytest.approx(expected, rel=0.1)


def test_the_ears_of_a_sphere_hear_as_late_as_those_of_a_head(shared_data):
    theirs, ours, bare = measured.ear_delays(shared_data)
    assert len(theirs) == 37 and max(theirs) > 650 and min(theirs) < -650
    errors = np.abs(ours - theirs)
    assert np.median(errors) < 20 and errors.max() < 100
    # Two ears at the same distance without a head between them err more.
    assert np.median(errors) < 0.5 * np.median(np.abs(bare - theirs))
