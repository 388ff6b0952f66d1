"""curator/training/preference_settings.py."""

from __future__ import annotations

import pytest

from curator.errors import ConfigError
from curator.training.preference_settings import DPOSettings


def test_the_learning_rate_is_that_of_the_method_where_none_is_given():
    assert [DPOSettings().rate, DPOSettings(method="orpo").rate] == [1e-5, 8e-5]
    assert DPOSettings(learning_rate=0.5).rate == 0.5
    assert DPOSettings(device="cpu").shown == DPOSettings(device="cuda").shown
    assert DPOSettings(beta=0.2).shown["beta"] == 0.2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "ppo"}, "dpo or orpo"),
        ({"beta": 0.0}, "beta is 0.0; it must be above 0"),
        ({"beta": float("inf")}, "beta is inf"),
        ({"nll_weight": -1.0}, "nll_weight is -1.0; it must be 0 or more"),
        ({"most_fall": 0.0}, "most_fall is 0.0; it must be above 0"),
        ({"on_fall": "cry"}, "stop or warn"),
        ({"method": "orpo", "nll_weight": 0.5}, "ORPO's is 1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"dtype": "int8"}, "cannot train in 'int8'"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        DPOSettings(**given)
