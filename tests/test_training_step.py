"""The training step: chunks give the numbers of the whole batch, and what makes it fast changes no number."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from mcnlab.data.store import open_store
from mcnlab.errors import ConfigError
from mcnlab.experiment.build import build_loop, build_model, build_source, build_stages
from mcnlab.experiment.objective import build_terms
from mcnlab.experiment.settings import ExperimentSettings
from mcnlab.models import convolution
from mcnlab.models.convolution import TimeNorm, WideConvolution, channels_innermost, convolved
from mcnlab.models.davenet import DaveNet
from mcnlab.models.resting import resting_statistics
from mcnlab.training.chunks import chunked_forward, whole_forward
from mcnlab.training.loop import Trainer, recompute_audio
from mcnlab.training.normalization import SpanningBatchNorm
from mcnlab.training.stages import PrefixCache
from mcnlab.training.step import StepSettings, autocast, on_host
from tests.small_store import make_store

TERMS = {"contrast": {}, "cluster": {"clusters": 6, "queue_batches": 3, "refit_every": 2}, "reconstruct": {}}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""Chunks add the same float32 numbers in another order."""
ROUNDING = re.compile(r"(video_in_va\.[03]|va_to_vat\.1)\.bias|(video_in_va|va_to_vat).*running_mean")
"""Biases ahead of a batch normalization: their gradient is rounding alone, of which Adam makes whole steps."""
MODALITIES, PAIRS = ("video", "audio", "text"), ("va", "vt", "at")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    made = tmp_path_factory.mktemp("stores")
    make_store(made / "whole")
    make_store(made / "holed", missing_audio=0.6, missing_text=0.5)
    return {name: open_store(made / name) for name in ("whole", "holed")}


def trainer(store, folder, *, training=None, **changes):
    base = {
        "experiment": "test",
        "data": {"store": str(store.path)},
        "stages": "VAT",
        "terms": TERMS,
        "model": {"dim": 8, "audio_width": 16, "audio_blocks": 1, "decoder_hidden": 8, "audio_frames": 64, "words": 4},
    }
    steps = {"batch": 16, "lr": 0.001, "warmup_steps": 2, "max_steps": 5, "epochs": 4}
    wanted = ExperimentSettings.parse({**base, **changes, "training": {**steps, **(training or {})}}, source="test")
    folder.mkdir()
    model = build_model(wanted, store, seed=0)
    return Trainer(
        model=model,
        terms=build_terms(wanted, model.graph, seed=0),
        source=build_source(wanted, store, "train", shuffle_seed=None),
        stages=build_stages(wanted),
        settings=build_loop(wanted, seed=0),
        folder=folder,
        prefixes=PrefixCache(None, []),
    )


def trained(store, folder, **changes):
    """Losses of all steps, and all tensors at the end."""
    made = trainer(store, folder, **changes)
    losses = []
    made.on_step = lambda record: losses.append((record.loss, record.grad_norm))
    made.train()
    tensors = {f"model.{name}": x for name, x in made.model.state_dict().items()}
    for term, module in made.terms.items():
        tensors |= {f"{term}.{name}": x for name, x in module.state_dict().items()}
    return torch.tensor(losses), tensors


def assert_same_numbers(first, second):
    torch.testing.assert_close(first[0], second[0], **CLOSE)
    assert first[1].keys() == second[1].keys()
    for name, x in first[1].items():
        if ROUNDING.search(name):
            continue
        torch.testing.assert_close(x, second[1][name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


FAC = {"graph": "fac", "pairs": ["va", "vt"], "terms": {"contrast": {}}}
FROZEN = {"stages": [{"epochs": 3, "modalities": list(MODALITIES), "frozen": ["audio"]}]}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("whole", {}),
        ("whole", {"mode": "faithful"}),
        ("whole", {"graph": "disjoint"}),
        ("whole", FAC),
        ("whole", FROZEN),
        ("holed", {}),
        ("holed", {"mode": "faithful"}),
    ],
)
def test_chunks_equal_the_whole_batch_in_loss_gradient_and_all_that_is_kept(stores, tmp_path, name, changes):
    whole = trained(stores[name], tmp_path / "whole", **changes)
    chunks = trained(stores[name], tmp_path / "chunks", **changes, training={"chunk": 3})
    assert_same_numbers(chunks, whole)


def test_chunks_of_one_clip_equal_the_whole_batch_where_nothing_is_normalized_over_clips(stores, tmp_path):
    whole = trained(stores["holed"], tmp_path / "whole", stages="VT")
    chunks = trained(
        stores["holed"], tmp_path / "chunks", stages="VT", training={"chunk": 1, "chunk_statistics": "chunk"}
    )
    assert_same_numbers(chunks, whole)


def test_statistics_of_chunks_are_other_numbers_and_sound_ones(stores, tmp_path):
    whole = trained(stores["holed"], tmp_path / "whole")
    chunks = trained(stores["holed"], tmp_path / "chunks", training={"chunk": 4, "chunk_statistics": "chunk"})
    assert (chunks[0][0] - whole[0][0]).abs().max() > 1e-4
    assert bool(chunks[0].isfinite().all())
    assert all(bool(x.isfinite().all()) for x in chunks[1].values())
    moved = {name: int(x) for name, x in chunks[1].items() if name.endswith("num_batches_tracked")}
    assert 5 * 2 < max(moved.values()) <= 5 * 4  # steps · chunks that have sound: their second pass moves nothing


def forward_of(made, *, chunk=None, coupled_whole=True, precision="float32"):
    """A first batch through a model, and what is left for its gradient."""
    batch = made.source.batch(made.source.epoch((0,), batch=16)[0])
    made.model.train()
    if chunk is None:
        with autocast(precision, "cpu"):
            return whole_forward(made.model, batch, MODALITIES, PAIRS)
    return chunked_forward(
        made.model,
        batch,
        MODALITIES,
        PAIRS,
        chunk=chunk,
        coupled_whole=coupled_whole,
        autocast=lambda: autocast(precision, "cpu"),
    )


def gradients(made, **how):
    """Gradients of a loss that knows all clips at once."""
    found = forward_of(made, **how)
    joint = torch.cat([x.float() for x in found.outputs.embeddings.values()])
    (joint @ joint.T).square().mean().backward()
    for backward in found.backwards:
        backward()
    return {name: p.grad for name, p in made.model.named_parameters() if p.grad is not None}


def test_chunks_in_half_precision_reach_every_weight_and_agree_with_the_whole_batch(stores, tmp_path):
    whole = gradients(trainer(stores["whole"], tmp_path / "whole"), precision="bfloat16")
    chunks = gradients(trainer(stores["whole"], tmp_path / "chunks"), precision="bfloat16", chunk=5)
    assert chunks.keys() == whole.keys()
    for name, x in whole.items():
        assert functional.cosine_similarity(x.flatten(), chunks[name].flatten(), dim=0) > 0.99, name


def test_the_second_pass_makes_the_same_random_draws(stores, tmp_path):
    made = trainer(stores["whole"], tmp_path / "run")
    head = made.model.heads["text_in_joint"]
    made.model.heads["text_in_joint"] = nn.Sequential(head, nn.Dropout(0.5))
    seen = []
    made.model.heads["text_in_joint"].register_forward_hook(lambda *call: seen.append(call[2].detach()))
    before = torch.get_rng_state()
    gradients(made, chunk=6)
    first, second = seen[:3], seen[3:]
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
    assert not torch.equal(first[0] == 0, first[1][: len(first[0])] == 0)
    torch.set_rng_state(before)


def saved_bytes(made, **how):
    """Bytes that a forward pass keeps for the backward pass, weights left aside."""
    known = {p.untyped_storage().data_ptr() for p in made.model.parameters()}
    kept = {}

    def keep(x):
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        held = forward_of(made, **how)
    assert held.outputs.embeddings
    return sum(kept.values())


def test_chunks_keep_far_less_for_the_backward_pass(stores, tmp_path):
    made = trainer(stores["whole"], tmp_path / "run", model={"dim": 8, "audio_width": 64, "audio_frames": 256})
    whole = saved_bytes(made)
    recompute_audio(made.model, wanted=True)
    assert saved_bytes(made, chunk=4) < whole / 2
    assert saved_bytes(made, chunk=4, coupled_whole=False) == 0  # the first pass keeps no graph at all


def test_what_is_computed_again_gives_the_same_bits_and_moves_the_statistics_once():
    torch.manual_seed(0)
    mel = -80 * torch.rand(3, 5, 40)
    found = []
    for again in (False, True):
        torch.manual_seed(1)
        net = DaveNet(5, (4, 4, 8, 8), 1)
        net.recompute = again
        out = net(mel)
        out.square().sum().backward()
        found.append([out, *(p.grad for p in net.parameters()), *net.buffers()])
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_resting_statistics_rest_and_go_on_afterwards():
    norm = TimeNorm(2)
    x = torch.randn(4, 2, 1, 3)
    with resting_statistics(norm):
        rested = norm(x)
    assert bool((norm.running_mean == 0).all())
    torch.testing.assert_close(norm(x), rested)
    assert bool((norm.running_mean != 0).all())


@pytest.mark.parametrize(("stride", "frames"), [(1, 12), (2, 12), (2, 13), (2, 1)])
@pytest.mark.parametrize("block", [2**28, 1])
def test_a_wide_convolution_is_the_usual_one_with_the_usual_gradients(monkeypatch, stride, frames, block):
    monkeypatch.setattr(convolution, "UNFOLDED_BYTES", block)
    torch.manual_seed(0)
    x = torch.randn(3, 4, frames, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, 9, dtype=torch.float64, requires_grad=True)
    usual = functional.conv1d(x, weight, stride=stride, padding=4)
    toward = torch.randn_like(usual)
    expected = torch.autograd.grad(usual, (x, weight), toward)
    ours = WideConvolution.apply(channels_innermost(x), weight.unsqueeze(2), stride, 4).squeeze(2)
    torch.testing.assert_close(ours, usual)
    for found, wanted in zip(torch.autograd.grad(ours, (x, weight), toward), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_wide_layer_takes_its_own_way_and_agrees_with_the_narrow_ones(monkeypatch, precision):
    torch.manual_seed(0)
    layer = nn.Conv1d(3, 4, 9, padding=4, bias=False)
    x = channels_innermost(torch.randn(2, 3, 20))
    found = []
    for wide in (4, 5):
        monkeypatch.setattr(convolution, "WIDE", wide)
        layer.zero_grad()
        with autocast(precision, "cpu"):
            out = convolved(x, layer)
        assert ("Wide" in type(out.grad_fn).__name__) == (wide == 4)
        out.float().square().sum().backward()
        found.append((out.float(), layer.weight.grad))
    rough = {} if precision == "float32" else {"rtol": 0.05, "atol": 0.2}
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **rough)


NARROW = """
import sys
import torch
from torch import nn
from mcnlab.models.convolution import channels_innermost, convolved
torch.set_num_threads(2)
torch.manual_seed(0)
for channels in (2, 4, 8, 12):
    for rows in range(1, 12):
        layer, x = nn.Conv1d(channels, 16, 1, stride=2, bias=False), torch.randn(rows, channels, 256)
        wanted = torch.autograd.grad(layer(x).square().sum(), layer.weight)[0]
        for _ in range(5):
            out = convolved(channels_innermost(x), layer)
            found = torch.autograd.grad(out.square().sum(), layer.weight)[0]
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
"""


def test_narrow_strided_layers_stay_within_their_memory_with_two_threads():
    """The library's own kernel for them writes beyond it: on processors with AVX512, this process would die."""
    checked = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}  # ends at the first block that is overrun
    ended = subprocess.run(
        [sys.executable, "-c", NARROW], env={**os.environ, **checked}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_numbers_come_to_the_host_together_and_exactly():
    large = torch.tensor(1e300, dtype=torch.float64)
    found = on_host({"a": torch.tensor(0.1), "none": None, "b": large, "c": torch.tensor(math.nan)})
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == torch.tensor(0.1).item()
    assert found["b"] == 1e300
    assert math.isnan(found["c"])


def test_a_model_without_a_compiler_runs_uncompiled_and_says_so(stores, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.warns(UserWarning, match=r"training.compile: no C\+\+ compiler \(no-such-compiler\) on the path"):
        losses, _ = trained(stores["whole"], tmp_path / "run", training={"compile": True})
    assert bool(losses.isfinite().all())


COMPILED = """
import torch
from mcnlab.models.graph import shared_graph
from mcnlab.models.multimodal import ModelSizes, MultimodalModel
from mcnlab.training.compiling import compile_audio

sizes = ModelSizes({"audio": 5, "text": 4}, dim=8, audio_width=16, audio_blocks=1)
model = MultimodalModel(sizes, shared_graph(("audio", "text"), ("at",)), faithful=True, decoders=False, seed=0)
mel = -80 * torch.rand(6, 5, 40)
found = []
for compiled in (False, True):
    if compiled:
        compile_audio(model)
    model.zero_grad()
    out = model.backbones["audio"](mel)
    out.square().sum().backward()
    found.append((out.detach(), *(p.grad for p in model.backbones["audio"].parameters())))
for one, other in zip(*found, strict=True):
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
assert "backbones.audio.stem.weight" in model.state_dict()
from torch._dynamo.utils import counters
assert counters["stats"]["calls_captured"] > 0, "nothing was compiled"
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler")
def test_a_compiled_model_gives_the_same_numbers():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}  # the checks of shapes stay outside
    done = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"chunk": 0}, "chunk"),
        ({"chunk_statistics": "chunk"}, "chunk_statistics: chunk needs chunk"),
        ({"chunk": 4, "compile": True}, "compile: true does not go with chunk"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(stores, tmp_path, training, message):
    with pytest.raises(ConfigError, match=message):
        trainer(stores["whole"], tmp_path / "run", training=training)


def test_the_settings_of_chunks_arrive_at_the_step(stores, tmp_path):
    made = trainer(stores["whole"], tmp_path / "run", training={"chunk": 7, "chunk_statistics": "chunk"})
    assert made.settings.step == StepSettings(chunk=7, coupled_whole=False)
    assert not made.model.backbones["audio"].recompute
    made = trainer(stores["whole"], tmp_path / "other", training={"chunk": 7})
    assert made.model.backbones["audio"].recompute


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_over_all_processes_are_normalized_as_in_evaluation(rows):
    norm = SpanningBatchNorm(3).train()
    norm(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = norm(x)
    found.sum().backward()
    assert torch.allclose(found, norm.eval()(x), atol=1e-6)
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())
    assert all(p.grad.isfinite().all() for p in norm.parameters())
