"""The study of deflation as it is shipped, three seeds: pictures are told apart as well as by the video network."""

import pytest

from tests.shipped_study import mean_of_three, summary_of

ZEROS, REPEATED, SHIFT = "zeros in time", "frames repeated in time", "temporal shift"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return summary_of("stills", tmp_path_factory.mktemp("stills"))


def mean(study, experiment, subject, metric):
    return mean_of_three(study, "stills", experiment, subject, metric)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [ZEROS, REPEATED, SHIFT])
def test_the_network_for_pictures_names_them_within_3_points_of_the_video_network(study, experiment):
    assert mean(study, experiment, "deflated", "behind_static") <= 0.03
    assert mean(study, experiment, "static", "accuracy") > 4 * mean(study, experiment, "static", "chance")
    assert mean(study, experiment, "static", "accuracy") > 2 * mean(study, experiment, "static", "untrained")


@pytest.mark.slow
def test_trained_norms_are_nearer_than_naive_deflation_and_repeated_frames_are_exact(study):
    for experiment in (ZEROS, SHIFT):
        fitted, naive = (mean(study, experiment, subject, "relative_l1") for subject in ("deflated", "naive"))
        assert fitted <= 0.6 * naive
    assert mean(study, REPEATED, "naive", "relative_l1") <= 1e-5
