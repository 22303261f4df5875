"""`mcnlab plan`: counted work against numbers known on paper, rates to seconds, what does not fit, and bad input."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from mcnlab.cli import main
from mcnlab.config import read_yaml
from mcnlab.errors import ConfigError, DataError
from mcnlab.experiment.build import build_stages
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.experiment.settings_files import read_experiment
from mcnlab.plan.advice import planned
from mcnlab.plan.calibration import Calibration, Rates, StepFactors, rate_at, read_calibration, write_calibration
from mcnlab.plan.measure_steps import TimedStep, fitted_factors, reference_experiment, timed_step
from mcnlab.plan.predict import DISK, LINKS, LOADING, exchanged_bytes, op_seconds, plan_experiment, step_seconds
from mcnlab.plan.sizes import Request, data_size
from mcnlab.plan.step_cost import StepSize, step_cost
from mcnlab.plan.trace import Op, counting
from mcnlab.plan.words import rounded, size_in_words, time_in_words

ROOT = Path(__file__).parents[1]
TINY = ROOT / "studies" / "tiny_experiment.yaml"
DIMS = {"video": 4096, "audio": 40, "text": 300}
PAPER = {
    "experiment": "MCN",
    "mode": "faithful",
    "stages": "VAT",
    "data": {"store": "nowhere", "sampling": "published"},
    "model": {"dim": 6144, "audio_width": 1024, "decoder_hidden": 1024, "audio_frames": 1000},
    "terms": {"contrast": {}, "cluster": {}, "reconstruct": {}},
    "training": {"batch": 4096},
}


def round_rates(rate=1e9, threads=1):
    """Made-up rates that make seconds easy to reckon: everything at `rate`."""
    one = ((1.0, rate),)
    table = dict.fromkeys(("float32", "bfloat16", "float16"), one)
    plain = ("norm_forward_bytes", "norm_backward_bytes", "fresh_bytes", "inplace_bytes")
    arithmetic = ("gemm_flops", "conv_forward_flops", "conv_backward_flops")
    return (
        {"threads": threads, "overhead_s": 1e-6, "update_overhead_s": 1e-6}
        | dict.fromkeys(arithmetic, table)
        | dict.fromkeys(plain, one)
    )


def round_machine(**changed):
    """A made-up machine for tests of formulas."""
    values = {
        "device": "a round machine",
        "kind": "cpu",
        "machine": "nowhere",
        "date": "2026-01-01T00:00:00+00:00",
        "torch": torch.__version__,
        "cores": 1,
        "devices": 1,
        "device_memory_bytes": 10**11,
        "host_memory_bytes": 10**11,
        "idle_bytes": 0,
        "rates": [round_rates()],
        "loader_bytes_per_s": 1e9,
        "read_bytes_per_s": 1e9,
        "random_read_bytes_per_s": 1e9,
        "write_bytes_per_s": 1e9,
        "all_reduce_bytes_per_s": {2: 1e9},
    }
    return Calibration.parse(values | changed, source="test")


def cost_of(settings, *, local, total=None, refit=False, chunk=None, dims=DIMS):
    """The cost of a step of the first stage."""
    return step_cost(settings, dims, build_stages(settings)[0], StepSize(local, total or local, refit, chunk))


def test_a_matrix_product_and_its_two_gradients_cost_six_sides_multiplied():
    with counting() as tracer:
        layer, x = nn.Linear(30, 40, bias=False), torch.randn(20, 30, requires_grad=True)
        tracer.ops.clear()
        layer(x).sum().backward()
    products = [op for op in tracer.ops if op.kind == "gemm"]
    assert [op.flops for op in products] == [2 * 20 * 30 * 40] * 3
    assert products[0].bytes == 4 * (20 * 30 + 30 * 40 + 20 * 40)
    assert products[0].size == 20


def test_a_convolution_costs_its_frames_times_kernel_times_channels():
    with counting() as tracer, torch.no_grad():
        nn.functional.conv1d(torch.randn(2, 8, 50), torch.randn(32, 8, 9), padding=4)
    (op,) = [op for op in tracer.ops if op.flops]
    assert (op.kind, op.flops, op.size) == ("conv_forward", 2 * 2 * 50 * 32 * 8 * 9, 16.0)


def test_memory_counts_what_lives_at_once():
    with counting() as tracer:
        x = torch.empty(1000)
        before, tracer.peak_bytes = tracer.live_bytes, 0
        y = x + 1
        del y
        x.add_(1)
        _ = x + 2
    assert before >= 4000
    assert tracer.peak_bytes - before == 4000


def test_the_paper_step_needs_what_the_arithmetic_of_its_towers_says():
    settings = ExperimentSettings.parse(PAPER, source="test")
    cost = cost_of(settings, local=128)
    by_part = {}
    for op in cost.ops:
        by_part[op.part] = by_part.get(op.part, 0) + op.flops
    video = 3 * 2 * (4096 * 6144 + 6144 * 6144) - 2 * 4096 * 6144  # the input needs no gradient
    assert by_part["video tower"] == 128 * video
    assert 22e9 < sum(by_part.values()) / 128 < 28e9  # the known 25 GFLOP of a clip
    assert cost.gradient_bytes == 4 * cost.weights  # all towers train


def test_the_work_of_a_tower_grows_with_its_clips_and_what_it_holds_does_not():
    settings = read_experiment(TINY)
    small = {"video": 12, "audio": 40, "text": 8}
    once = cost_of(settings, local=8, dims=small)
    twice = cost_of(settings, local=16, dims=small)
    audio = [sum(op.flops for op in cost.ops if op.part == "audio tower") for cost in (once, twice)]
    assert audio[1] == 2 * audio[0]
    assert once.held_bytes == twice.held_bytes


def test_a_fit_of_the_clusters_costs_more_than_an_assignment():
    settings = ExperimentSettings.parse(PAPER, source="test")
    fit, plain = (
        sum(op.flops for op in cost_of(settings, local=128, refit=refit).ops if op.part == "cluster term")
        for refit in (True, False)
    )
    queue, batch = 20 * 64, 128
    assert fit - plain >= 2 * (queue + batch) * 6144 * 256  # at least one assignment of all rows


SMALL = {
    "experiment": "small",
    "stages": "VT",
    "data": {"store": "nowhere"},
    "model": {"dim": 32, "audio_width": 16, "audio_blocks": 1, "decoder_hidden": 16},
}


def test_a_memory_bank_holds_a_row_for_every_clip_and_side_of_a_pair():
    wanted = ExperimentSettings.parse({**SMALL, "terms": {"contrast": {"loss": "memory_bank"}}}, source="test")
    few, many = (
        step_cost(wanted, DIMS, build_stages(wanted)[0], StepSize(8, 8, refit=False, clips=clips))
        for clips in (100, 1100)
    )
    assert many.checkpoint_bytes - few.checkpoint_bytes == 1000 * 2 * (4 * 32 + 8)  # an embedding and a place
    assert many.weights == few.weights


def test_three_candidates_cost_the_text_tower_three_times_as_much():
    counts = []
    for candidates in (1, 3):
        changed = {"terms": {"contrast": {"loss": "mil_nce"}}, "data": {"store": "nowhere", "candidates": candidates}}
        cost = cost_of(ExperimentSettings.parse({**SMALL, **changed}, source="test"), local=8)
        counts.append(sum(op.flops for op in cost.ops if op.part == "text tower"))
    assert counts[1] == 3 * counts[0]


@pytest.mark.parametrize("predict", [{"loss": "l2"}, {"loss": "codes", "codes": 16}])
def test_predictors_are_reckoned_with(predict):
    wanted = ExperimentSettings.parse({**SMALL, "terms": {"predict": predict}}, source="test")
    cost = cost_of(wanted, local=8)
    assert sum(op.flops for op in cost.ops if op.part == "predict term") > 0
    assert cost.gradient_bytes < 4 * cost.weights, "the tower of audio does not train"


def test_a_smaller_share_of_the_batch_leaves_the_terms_as_they_are():
    settings = ExperimentSettings.parse(PAPER, source="test")
    whole, half = cost_of(settings, local=64), cost_of(settings, local=32, total=64)
    for part, ratio in (("contrast term", 1.0), ("audio tower", 0.5)):
        counts = [sum(op.flops for op in cost.ops if op.part == part) for cost in (half, whole)]
        assert counts[0] == pytest.approx(ratio * counts[1], rel=0.01), part
    assert half.work_bytes < whole.work_bytes


def test_an_operation_takes_the_longer_of_arithmetic_and_bytes():
    rates = round_machine().rates[0]
    slow = Op("", "gemm", "float32", flops=10**9, bytes=10, size=64)
    wide = Op("", "gemm", "float32", flops=10, bytes=3 * 10**9, size=1)
    assert op_seconds(slow, rates)[0] == pytest.approx(1.0)
    assert op_seconds(wide, rates)[0] == pytest.approx(3.0)


def test_factors_come_back_from_steps_that_were_made_with_them():
    known = StepFactors(calls=3.0, updates=0.5, arithmetic=2.0, memory=1.5)
    rates = Rates.parse(round_rates(rate=1e12), source="test")
    slower = rates.model_copy(update={"factors": known})
    steps = []
    for calls, updates, work, moved in [(900, 9, 1, 1), (9, 900, 1, 1), (9, 9, 10**10, 1), (9, 9, 1, 10**10)]:
        ops = [Op("", "fresh", "float32", 0, 1, 1)] * calls + [Op("optimizer", "inplace", "float32", 0, 1, 1)] * updates
        ops += [Op("", "gemm", "float32", work, 1, 64), Op("", "fresh", "float32", 0, moved, moved)]
        seconds = sum(step_seconds(ops, slower, "float32", waits=True)[0].values())
        steps.append(TimedStep(((1.0, tuple(ops)),), seconds))
    found = fitted_factors(steps, rates).model_dump()
    assert found == pytest.approx(known.model_dump(), rel=0.03)


def test_a_step_of_the_package_is_timed_and_counted():
    size = {"dim": 8, "audio_width": 8, "audio_blocks": 1, "audio_frames": 32, "batch": 8, "video": 6, "text": 4}
    step = timed_step(*reference_experiment({"contrast": {}}, **size))
    ((share, ops),) = step.ops
    assert share == 1.0
    assert {"video tower", "audio tower", "text tower", "contrast term", "optimizer"} <= {op.part for op in ops}
    assert 1e-4 < step.seconds < 60


def test_every_weight_is_read_and_written_once_by_an_update():
    with counting() as tracer:
        weight = nn.Parameter(torch.randn(30, 40))
        optimizer = torch.optim.Adam([weight], fused=True)
        weight.grad = torch.randn(30, 40)
        optimizer.step()
        tracer.ops.clear()
        optimizer.step()
    assert [op.bytes for op in tracer.ops if op.bytes > 100] == [7 * 4 * 30 * 40]


def test_a_rate_between_two_sizes_lies_on_a_logarithmic_line():
    assert rate_at([(1.0, 10.0), (100.0, 1000.0)], 10.0) == pytest.approx(100.0)
    assert rate_at([(1.0, 10.0), (100.0, 1000.0)], 1e6) == pytest.approx(1000.0)


def test_the_store_of_howto100m_is_as_large_as_its_rows():
    settings = ExperimentSettings.parse(PAPER, source="test")
    size = data_size(settings, Request(1_000_000, hours_per_video=0.1))
    assert size.store_bytes == 1e5 * 3600 * (2048 + 1.5 * 2048 + 4000) * 2
    assert size.clips == 32_000_000
    assert size.clip_bytes == 10 * (2048 + 1.5 * 2048 + 4000) * 2
    assert size.input_dims == DIMS


def test_hours_are_steps_times_seconds_and_checkpoints():
    settings = read_experiment(TINY)
    plan = planned(settings, Request(40), round_machine())
    (stage,) = plan.stages
    assert stage.steps == 20 * (40 * 6 // 80)
    assert plan.hours * 3600 == pytest.approx(60 * stage.step_s + 3 * stage.cost.checkpoint_bytes / 1e9)
    assert stage.step_s == pytest.approx(sum(stage.by_part.values()))


def test_links_carry_gradients_twice_and_embeddings_three_times():
    plan = planned(read_experiment(TINY), Request(40, gpus=2), round_machine())
    (stage,) = plan.stages
    assert exchanged_bytes(stage.cost, 2) == stage.cost.gradient_bytes + 1.5 * stage.cost.gathered_bytes
    assert stage.by_part[LINKS] == pytest.approx(exchanged_bytes(stage.cost, 2) / 1e9)
    assert plan.local == 40


@pytest.mark.slow
def test_a_step_that_does_not_fit_is_told_with_a_batch_that_would():
    settings = read_experiment(TINY)
    needs = planned(settings, Request(40), round_machine()).device_bytes
    plan = planned(settings, Request(40), round_machine(device_memory_bytes=int(needs * 0.8)))
    (warning,) = [line for line in plan.warnings if "memory" in line]
    assert "would fit" in warning
    changed = "chunk" if "training.chunk" in warning else "batch"
    number = int(warning.split(f"training.{changed}=")[1].split()[0].rstrip(",;"))
    assert 2 <= number <= 40


def test_clips_that_do_not_fit_into_the_machine_are_told():
    plan = planned(read_experiment(TINY), Request(10**8), round_machine())
    assert any("data.sampling=captions" in line for line in plan.warnings)


def test_numbers_have_two_digits_and_a_unit():
    assert [rounded(x) for x in (1234.0, 0.01234, 9.96, 0.0)] == ["1,200", "0.012", "10.0", "0"]
    assert [size_in_words(x) for x in (999.0, 8.1e12)] == ["1,000 B", "8.1 TB"]
    assert [time_in_words(x) for x in (2e-5, 0.5, 90.0, 7200.0, 864_000.0)] == [
        "20 µs", "500 ms", "90 s", "2.0 h", "10 days",
    ]  # fmt: skip
    assert math.isinf(float(rounded(math.inf)))


def test_a_calibration_comes_back_as_it_was_written(tmp_path):
    machine = round_machine()
    assert read_calibration(write_calibration(machine, tmp_path / "deep" / "cal.json")) == machine


def test_a_study_counts_a_shared_stage_once(tmp_path, capsys):
    base = {**read_yaml(TINY), "stages": "AV_T"}
    experiments = [
        {"experiment": "contrast alone"},
        {"experiment": "another end", "evaluation": {"tasks": ["geometry"]}},
    ]
    study = {"study": "two", "title": "t", "question": "q", "seeds": [0], "base": base, "experiments": experiments}
    path, machine = tmp_path / "two.yaml", tmp_path / "cal.json"
    path.write_text(yaml.safe_dump(study))
    write_calibration(round_machine(), machine)
    assert main(["plan", str(path), "--videos", "40", "--calibration", str(machine), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    first, second = told["runs"]
    assert first["own_hours"] == pytest.approx(first["hours"])
    assert second["own_hours"] == pytest.approx(second["stages"][1]["hours"])
    assert told["hours"] == pytest.approx(first["own_hours"] + second["own_hours"])


def test_steps_that_take_every_core_wait_for_their_clips():
    waits = {}
    for threads in (1, None):
        settings = read_experiment(TINY, overrides=[f"training.threads={'null' if threads is None else threads}"])
        (stage,) = plan_experiment(settings, Request(40), round_machine()).stages
        waits[threads] = sum(stage.by_resource[name] for name in (LOADING, DISK) if name in stage.by_resource)
        assert stage.loading_s > 0
    assert waits[None] == pytest.approx(stage.loading_s)
    assert waits[1] == 0


def test_the_page_names_hours_memory_disk_reads_and_the_bottleneck(tmp_path, capsys):
    machine = write_calibration(round_machine(), tmp_path / "cal.json")
    assert main(["plan", str(TINY), "--videos", "40", "--calibration", str(machine)]) == 0
    page = capsys.readouterr().out
    for words in ("training", "memory of each device", "store on disk", "features read", "The bottleneck:"):
        assert words in page


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--videos", "40"], 2, "run mcnlab plan --calibrate"),
        (["--videos", "-3", "--calibration", "CAL"], 2, "--videos: expected a number above 0, got -3"),
        (["--videos", "40", "--hours-per-video", "nan", "--calibration", "CAL"], 2, "--hours-per-video"),
        (["--videos", "40", "--calibration", "CAL", "--set", "model.dimm=3"], 2, "did you mean 'dim'"),
        (["--videos", "40", "--calibration", "BAD"], 3, "not a calibration"),
        (["--videos", "40", "--calibration", "ODD"], 3, "unknown setting 'speed'"),
        ([], 2, "--videos"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, capsys, monkeypatch, flags, code, words):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = {name: tmp_path / f"{name}.json" for name in ("CAL", "BAD", "ODD")}
    write_calibration(round_machine(), files["CAL"])
    files["BAD"].write_text("[1")
    files["ODD"].write_text(json.dumps({**round_machine().model_dump(mode="json"), "speed": 1}))
    assert main(["plan", str(TINY), *(str(files.get(flag, flag)) for flag in flags)]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_errors_name_the_class_of_mistake(tmp_path):
    with pytest.raises(ConfigError, match="--gpus"):
        Request(3, gpus=0)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(DataError, match="expected a mapping"):
        read_calibration(tmp_path / "list.json")


@pytest.mark.slow
def test_planned_hours_are_within_a_quarter_of_the_measured_ones(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("rows", None)
    import plan_check  # the benchmark is the check

    options = plan_check.argparse.Namespace(threads=1, only=None, rounds=2)
    rows = {row.part: row.ratio for row in plan_check.measure(options)}
    assert 0.75 <= rows["plan, world: step"] <= 1.25
    assert 0.75 <= rows["plan, paper: step"] <= 1.25
