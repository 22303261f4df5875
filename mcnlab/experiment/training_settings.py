"""The settings of stages, and of how the objective is minimized in them."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from mcnlab.config import Settings
from mcnlab.experiment.pairs import Modality, Pair, names_in, with_pairs
from mcnlab.experiment.term_settings import (
    TermName,
)
from mcnlab.modalities import pair_modalities


class StageSettings(Settings):
    """Some epochs with a fixed set of active parts."""

    epochs: PositiveInt
    """Passes over the clips."""
    modalities: tuple[Modality, ...]
    """Modalities that take part: video, audio, text, or any other view that the store has."""
    pairs: tuple[Pair, ...] | None = None
    """Pairs that are compared, or `core:video`; all pairs of the modalities when not given."""
    terms: tuple[TermName, ...] | None = None
    """Terms that count; all when not given."""
    frozen: tuple[Modality, ...] = ()
    """Modalities that take part but do not train."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        """Write out `pairs: core:video` and `pairs: full`."""
        return with_pairs(values, names_in(values.get("modalities"))) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        for pair in self.pairs or ():
            for modality in pair_modalities(pair):
                if modality not in self.modalities:
                    raise ValueError(f"pair {pair!r} needs {modality}, which is not among the stage's modalities")
        for modality in self.frozen:
            if modality not in self.modalities:
                raise ValueError(f"frozen: {modality!r} is not among the stage's modalities {list(self.modalities)}")
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"a stage needs different modalities, at least one, got {list(self.modalities)}")
        return self


class TrainingSettings(Settings):
    """How the objective is minimized."""

    epochs: PositiveInt = 30
    """Epochs of all stages together, for stages given by name."""
    batch: PositiveInt = 128
    """Clips per step, over all processes."""
    lr: PositiveFloat = 1e-4
    """Highest learning rate of Adam."""
    warmup_steps: NonNegativeInt = 20
    """Steps of linear warm-up at the start of each stage; published 5000."""
    max_grad_norm: PositiveFloat = Field(default=float("inf"), allow_inf_nan=True)
    """Gradients are shortened to this; published none."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Compute type; the weights stay float32."""
    chunk: PositiveInt | None = None
    """Clips that each process takes through the model at a time; its whole share of the batch when not given. The
    losses still see the whole batch, and memory for the backward pass is that of a chunk."""
    chunk_statistics: Literal["batch", "chunk"] = "batch"
    """Whose clips a batch normalization (in DaveNet, in MMV's heads and maps) sees when there are chunks. `batch`: all,
    exactly as without chunks; such modalities go through the model at once, and DaveNet keeps only its blocks' inputs
    for the backward pass. `chunk`: those of the chunk; less memory, other numbers."""
    compile: bool = False
    """Let torch compile DaveNet; left out with a warning where there is no C++ compiler for a CPU, and with several
    processes. On a CPU there is little to gain: nearly all time goes into convolutions, which it leaves as they are."""
    checkpoint_every: PositiveInt = 100
    """Steps between two checkpoints."""
    keep_every: PositiveInt | None = None
    """Steps between two checkpoints whose weights stay on disk for the whole run, so that its course can be looked at;
    those at the end of every stage stay as well. Only the two newest stay when not given. The numbers are the same."""
    keep_best: bool = False
    """Whether the weights of the best checkpoint stay in `best/` as well: that with the lowest mean training loss over
    the steps before it, in the last stage, since nothing is validated during training. The numbers are the same."""
    max_steps: PositiveInt | None = None
    """Most steps of a stage, whatever the epochs say."""
    on_non_finite: Literal["stop", "record"] = "stop"
    """A term that is NaN or infinite stops the run with an error, or ends its training and is recorded."""
    threads: PositiveInt | None = None
    """CPU threads of torch; all cores when not given, or one with `deterministic`."""
    deterministic: bool = False
    """Use only algorithms that add in the same order every time, with a fixed number of threads; an error where torch
    has none. `--deterministic` sets it. On a CPU the numbers are those without it and the same threads; a GPU gives
    other last digits, and takes longer."""
    prefetch: NonNegativeInt = 2
    """Batches that are read while a step computes; 0 reads each when it is wanted. The numbers are the same. On a CPU
    whose cores the steps all take, none is read ahead: it would slow them down by half."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU when there is one."""

    @model_validator(mode="before")
    @classmethod
    def _threads_are_fixed(cls, values: Any) -> Any:
        """Deterministic numbers do not hang on how many cores there are."""
        if isinstance(values, Mapping) and values.get("deterministic") is True and values.get("threads") is None:
            return {**values, "threads": 1}
        return values

    @model_validator(mode="after")
    def _chunks_fit(self) -> Self:
        if self.chunk is None and self.chunk_statistics != "batch":
            raise ValueError(f"chunk_statistics: {self.chunk_statistics} needs chunk, which is not given")
        if self.compile and self.chunk is not None:
            raise ValueError("compile: true does not go with chunk, whose second pass a compiled graph cannot tell")
        return self
