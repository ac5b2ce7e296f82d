"""Intervals: they hold what they should, shrink with rows, and compare pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jobs.evaluation.summary import Floats, estimate, share, share_difference


def mean(own: Floats) -> Floats:
    return own


def test_the_figure_is_the_mean_and_lies_inside_its_interval() -> None:
    values = np.random.default_rng(1).normal(3, 1, (50, 1))
    found = estimate(values, mean)
    assert found.value == pytest.approx(values.mean())
    assert found.low < found.value < found.high
    assert found.rows == 50


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide_on_each_side() -> None:
    values = np.random.default_rng(2).normal(0, 1, (400, 1))
    found = estimate(values, mean, resamples=4000)
    error = values.std() / math.sqrt(400)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.08)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    chance = np.random.default_rng(3)
    found = [estimate(chance.exponential(1.0, (40, 1)), mean, 400, seed) for seed in range(200)]
    covered = sum(one.low <= 1.0 <= one.high for one in found) / 200
    assert 0.86 <= covered <= 0.99


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(4).normal(size=(30, 1))
    assert estimate(values, mean, seed=7) == estimate(values, mean, seed=7)
    assert estimate(values, mean, seed=7) != estimate(values, mean, seed=8)


def test_the_share_is_of_means_not_a_mean_of_shares() -> None:
    columns = np.array([[10.0, 0.0, 5.0], [30.0, 0.0, 30.0]])
    assert estimate(columns, share).value == pytest.approx((20 - 17.5) / 20)


def test_pairing_makes_a_difference_sharp_where_rows_differ_more_than_candidates() -> None:
    base = np.random.default_rng(5).normal(0, 10, 60)
    found = estimate(np.stack([base + 1, base], axis=1), np.subtract)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))


def test_the_difference_of_shares_is_the_share_less_the_others() -> None:
    columns = np.random.default_rng(6).uniform(1, 9, (20, 4)) + np.array([20.0, 0, 0, 0])
    own, other = estimate(columns[:, :3], share), estimate(columns[:, [0, 1, 3]], share)
    assert estimate(columns, share_difference).value == pytest.approx(own.value - other.value)


def test_no_rows_give_no_figure_and_one_row_no_width() -> None:
    assert math.isnan(estimate(np.zeros((0, 1)), mean).value)
    found = estimate(np.array([[2.0]]), mean)
    assert (found.low, found.value, found.high) == (2, 2, 2)


def test_a_share_of_nothing_is_not_a_number_and_no_warning() -> None:
    assert math.isnan(estimate(np.ones((5, 3)), share).value)
