"""What holds for all settings: they survive YAML, unknown names are refused with the near one, flags are data."""

import contextlib
import json
import string
import sys

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcnlab.config import Settings, plain_yaml, read_yaml, with_overrides
from mcnlab.errors import ConfigError
from mcnlab.experiment.settings import ExperimentSettings

FEW = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
names = st.text(min_size=1, max_size=80).filter(str.strip)
positive = st.floats(1e-300, 1e300)
not_negative = st.floats(0, 1e300)
contrasts = st.fixed_dictionaries(
    {},
    optional={
        "weight": not_negative,
        "loss": st.sampled_from(["masked_margin_softmax", "info_nce", "mil_nce", "symmetric_mil_nce"]),
        "margin": not_negative,
        "temperature": positive,
    },
)
clusters = st.fixed_dictionaries(
    {}, optional={"clusters": st.integers(1, 10**9), "divide": st.booleans(), "queue_share": st.floats(0.001, 1)}
)
experiments = st.fixed_dictionaries(
    {"experiment": names, "data": st.just("world"), "stages": st.sampled_from(["VT", "VAT", "AV_T", "VT_A"])},
    optional={
        "mode": st.sampled_from(["sound", "faithful"]),
        "graph": st.sampled_from(["shared", "disjoint"]),
        "terms": st.fixed_dictionaries({"contrast": contrasts}, optional={"cluster": clusters}),
        "training": st.fixed_dictionaries(
            {},
            optional={
                "epochs": st.integers(2, 10**6),
                "lr": positive,
                "max_grad_norm": positive | st.just(float("inf")),
                "precision": st.sampled_from(["float32", "bfloat16", "float16"]),
                "max_steps": st.none() | st.integers(1, 10**9),
            },
        ),
    },
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def all_groups(group=ExperimentSettings):
    """Every group of settings inside one, with those that it is in, by its names."""
    found, waiting = {}, [group]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, Settings) and one not in found:
            found[one] = sorted(one.model_fields)
            waiting += [field.annotation for field in one.model_fields.values()]
        waiting += getattr(one, "__args__", ())
    return found


GROUPS = all_groups()


@given(values=experiments)
@FEW
def test_settings_come_back_from_yaml_and_json_as_they_were(values):
    first = ExperimentSettings.parse(values, source="here")
    text = plain_yaml(first.model_dump(mode="json"))  # as a run writes it
    again = ExperimentSettings.parse(yaml.safe_load(text), source="there")
    assert again == first
    assert plain_yaml(again.model_dump(mode="json")) == text
    assert ExperimentSettings.model_validate_json(first.model_dump_json()) == first


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
@given(data=st.data())
@settings(FEW, max_examples=5)
def test_an_unknown_setting_is_named_with_the_nearest_one(group, data):
    known = data.draw(st.sampled_from(GROUPS[group]))
    wrong = known + data.draw(st.sampled_from(string.ascii_lowercase))
    if wrong in group.model_fields:
        return
    with pytest.raises(ConfigError, match=rf"^study\.yaml: unknown setting '{wrong}', did you mean '\w+'\?$"):
        group.parse({wrong: 1}, source="study.yaml")


@given(values=st.dictionaries(st.text(max_size=8), plain, max_size=4))
@FEW
def test_whatever_is_no_experiment_is_one_named_error(values):
    with pytest.raises(ConfigError, match=r"^file\.yaml: ") as error:
        ExperimentSettings.parse(values, source="file.yaml")
    assert error.value.exit_code == 2


@given(value=plain)
@FEW
def test_a_flag_brings_any_plain_value_and_leaves_the_others(value):
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True)
    before = {"training": {"epochs": 3, "lr": 0.1}, "experiment": "a"}
    found = with_overrides(before, [f"training.lr={text}"])
    assert found == {"training": {"epochs": 3, "lr": value}, "experiment": "a"}
    assert before == {"training": {"epochs": 3, "lr": 0.1}, "experiment": "a"}
    json.dumps(found)


@given(name=st.text(max_size=12), text=st.text(max_size=30))
@FEW
def test_any_flag_is_data_or_one_named_error(name, text):
    found = None
    with contextlib.suppress(ConfigError):  # any other error is none that a user could read
        found = with_overrides({"training": {"epochs": 3}}, [f"{name}={text}"])
    assert found is None or "training" in found


@given(value=plain)
@FEW
def test_values_come_back_from_our_yaml_as_they_were(value):
    assert yaml.safe_load(plain_yaml({"a": value, "b": "tür\x85\u2028"})) == {"a": value, "b": "tür\x85\u2028"}
    assert "ü" in plain_yaml({"a": "tür"})


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch executed']",
        "!!python/name:os.system",
        "!!python/object/new:subprocess.Popen [[touch, executed]]",
        "!!python/module:this",
        "__import__('os').system('touch executed')",
        "$(touch executed)",
        "`touch executed`",
        "${HOME}",
        "{{ 7 * 7 }}",
        "=cmd|' /C touch executed'!A0",
    ],
)
def test_what_looks_like_code_stays_text_or_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    (tmp_path / "file.yaml").write_text(f"experiment: {text}")
    for read in (lambda: with_overrides({}, [f"experiment={text}"]), lambda: read_yaml(tmp_path / "file.yaml")):
        try:
            value = read()["experiment"]
        except ConfigError as error:
            assert "not valid YAML" in str(error)  # noqa: PT017
        else:
            assert value == text or isinstance(value, dict)
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]
    assert "this" not in set(sys.modules) - before
