"""The training loop: stages, epochs, steps, checkpoints; it goes on wherever a run was left."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from mcnlab.data.loading import TrainingClips
from mcnlab.distributed import from_first, largest_over_ranks, rank, wait_for_all, world_size
from mcnlab.errors import StoppedError
from mcnlab.files import write_bytes_atomically
from mcnlab.models.davenet import DaveNet
from mcnlab.models.multimodal import MultimodalModel
from mcnlab.training.best import BEST, BestWeights
from mcnlab.training.checkpoint import (
    Position,
    TrainState,
    check_parameters,
    check_state,
    checkpoint_at,
    load_checkpoint,
    load_newest,
    save_checkpoint,
)
from mcnlab.training.compiling import compile_audio
from mcnlab.training.kept import FOLDER, copy_kept, forget_after, keep_weights
from mcnlab.training.metrics_log import MetricsLog, cut_back
from mcnlab.training.normalization import span_processes
from mcnlab.training.prefetch import BatchStream
from mcnlab.training.schedule import warmup_then_cosine
from mcnlab.training.stages import PrefixCache, Stage
from mcnlab.training.step import StepRecord, StepSettings, train_step
from mcnlab.training.terms import Active, Term


@dataclass(frozen=True)
class LoopSettings:
    """Plain numbers of the loop."""

    batch: int
    """Clips per step, over all processes."""
    lr: float
    warmup_steps: int
    seed: int
    checkpoint_every: int
    """Steps between two checkpoints; every stage ends with one as well."""
    keep_every: int | None = None
    """Steps between two checkpoints whose weights stay for the whole run, as do those at the end of every stage; None
    keeps none."""
    keep_best: bool = False
    """Whether the weights with the lowest mean loss between two checkpoints stay as well."""
    max_steps: int | None = None
    """Stop every stage after so many steps, whatever its epochs say."""
    prefetch: int = 2
    """Batches that are made while a step computes, where a core is left over for that; 0: none."""
    compile: bool = False
    """Let torch compile DaveNet."""
    step: StepSettings = field(default_factory=StepSettings)


@dataclass
class Trainer:
    """Everything that a run trains with; of several processes, rank 0 alone writes.

    Learning rate: warm-up and half cosine per stage, so that a stage does not depend on what follows it; Adam starts
    anew in each stage.
    """

    model: MultimodalModel
    terms: Mapping[str, Term]
    source: TrainingClips
    stages: Sequence[Stage]
    settings: LoopSettings
    folder: Path
    """The run folder."""
    prefixes: PrefixCache
    on_step: Callable[[StepRecord], None] = lambda record: None
    stop_signal: Callable[[], int | None] = lambda: None
    """Number of the signal that asked the run to stop; None while nobody has."""

    def __post_init__(self) -> None:
        if world_size() > 1:
            span_processes(self.model, apart=self.model.localizer)
        recompute_audio(self.model, self.settings.step.chunk is not None and self.settings.step.coupled_whole)
        if self.settings.compile:
            compile_audio(self.model)
        self.device = next(self.model.parameters()).device
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.settings.step.precision == "float16", init_scale=1024.0
        )
        batch, seed, ahead = self.settings.batch, self.settings.seed, self._batches_ahead()
        self.batches = BatchStream(self.source, batch=batch, seed=seed, ahead=ahead, device=self.device)
        self._renew_optimizer()
        self._best = BestWeights(self.folder / BEST, every=self.settings.checkpoint_every)

    def _batches_ahead(self) -> int:
        """Batches to make ahead: none where the steps take every core, which a thread beside them would slow down."""
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
        left_over = self.device.type != "cpu" or torch.get_num_threads() * processes < (os.cpu_count() or 1)
        return self.settings.prefetch if left_over else 0

    @property
    def total_steps(self) -> int:
        """Steps of all stages together."""
        return sum(self.stage_steps(stage) for stage in self.stages)

    def stage_steps(self, stage: Stage) -> int:
        """Steps that a stage takes."""
        steps = stage.epochs * self.batches.steps_per_epoch
        return steps if self.settings.max_steps is None else min(steps, self.settings.max_steps)

    def train(self) -> Position:
        """Train what is missing, and leave a last checkpoint.

        Returns:
            The position at the end.

        Raises:
            NonFiniteError: a term became NaN or infinite; the last good checkpoint stays.
            StoppedError: `stop_signal` said so; the checkpoint holds all that was done.
            CheckpointError: there are checkpoints, and none can be used.
            DataError: the log lacks steps that the checkpoint has done.
            RankError: another process was lost.
        """
        position = self._resumed()
        for number in range(position.stage, len(self.stages)):
            position = self._stage_or_prefix(number, position)
        from_first(torch.tensor(position.step))  # the others leave only when rank 0 has heard all that they said
        return position

    def _resumed(self) -> Position:
        """Where the newest checkpoint was; rank 0 finds it, and the others take the same one."""
        position = Position()
        if rank() == 0:
            position = load_newest(self._checkpoints, self._state()) or position
            cut_back(self.folder / "metrics.jsonl", step=position.step)
            forget_after(self._kept, step=position.step)
            self._best.go_on(step=position.step)
        step = int(from_first(torch.tensor(position.step)))
        if step > position.step:
            position = load_checkpoint(checkpoint_at(self._checkpoints, step), self._state())
        return position

    def _stage_or_prefix(self, number: int, position: Position) -> Position:
        """One stage: taken from the shared prefixes where it lies there, else trained."""
        last = number == len(self.stages) - 1
        if last or position.stage_step:
            return self._stage(number, position)
        with self.prefixes.claim(number) as found:
            if found is None:
                return self._stage(number, position)
            position = load_checkpoint(found / "checkpoint", self._state())
            write_bytes_atomically(self.folder / "metrics.jsonl", (found / "metrics.jsonl").read_bytes())
            self._renew_optimizer()
            if self.settings.keep_every is not None:
                copy_kept(found / FOLDER, self._kept)
                self._keep(position)
            save_checkpoint(self._checkpoints, self._state(), position)
            return position

    def _stage(self, number: int, position: Position) -> Position:
        """Train one stage from wherever it was left."""
        stage, log = self.stages[number], MetricsLog(self._log_path)
        total = self.stage_steps(stage)
        self.model.train()
        freeze(self.model, stage.frozen)
        if self.settings.keep_best:
            self._best.begin_stage(stage.name, self._log_path)
        try:
            while position.stage_step < total:
                position = self._step(stage, position, total, log)
                if position.stage_step == total:
                    break
                if self.settings.keep_every is not None and position.step % self.settings.keep_every == 0:
                    self._keep(position)
                if number_of_signal := int(largest_over_ranks(torch.tensor(self.stop_signal() or 0))):
                    self._save(position, log)
                    raise StoppedError(
                        f"{self.folder}: stopped after step {position.step}, goes on from there when called again",
                        signal_number=number_of_signal,
                    )
                if position.step % self.settings.checkpoint_every == 0:
                    self._save(position, log)
            self._renew_optimizer()
            position = replace(position, stage=number + 1, stage_step=0)
            if self.settings.keep_every is not None:
                self._keep(position)
            checkpoint = self._save(position, log)
        finally:
            self.batches.close()
            log.close()
        if number < len(self.stages) - 1:
            self.prefixes.publish(number, checkpoint, log.path, kept=self._kept)
        return position

    def _step(self, stage: Stage, position: Position, total: int, log: MetricsLog) -> Position:
        """One step, its log line, and the position after it."""
        began = time.monotonic()
        lr = warmup_then_cosine(
            position.stage_step, base=self.settings.lr, warmup_steps=self.settings.warmup_steps, total_steps=total
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        epoch, places, batch = self.batches.take(stage.name, position.stage_step, total=total)
        loss, grad_norm, values = train_step(
            self.model,
            batch,
            [self.terms[name] for name in stage.terms],
            self.optimizer,
            self.scaler,
            active=Active(stage.modalities, stage.pairs, position.step),
            stage=stage.name,
            settings=self.settings.step,
            clip_name=self.batches.clip_name,
        )
        seconds = time.monotonic() - began
        after = replace(
            position, stage_step=position.stage_step + 1, step=position.step + 1, train_s=position.train_s + seconds
        )
        record = StepRecord(
            after.step, stage.name, epoch, lr, loss, grad_norm, values, len(places) / seconds, after.train_s
        )
        log.append(record)
        self._best.note(loss)
        self.on_step(record)
        return after

    def _save(self, position: Position, log: MetricsLog) -> Path:
        """A checkpoint, after the log lines that it relies on."""
        if rank() == 0:
            log.sync()
            due = position.stage_step == 0 or position.step % self.settings.checkpoint_every == 0
            if self.settings.keep_best and due:  # the same steps, wherever a run was stopped
                self._best.keep(self.model, position)
            save_checkpoint(self._checkpoints, self._state(), position)
            self._best.forget_older()
        else:
            check_state(self._state(), step=position.step)
        wait_for_all()
        return checkpoint_at(self._checkpoints, position.step)

    def _keep(self, position: Position) -> None:
        """The weights of a step, for the whole run; before a checkpoint, so that none after it lacks them."""
        if rank() == 0:
            keep_weights(self._kept, self.model, position)
        else:
            check_parameters(self.model, step=position.step)

    def _state(self) -> TrainState:
        """What a checkpoint holds."""
        terms = {name: term for name, term in self.terms.items() if isinstance(term, nn.Module)}
        return TrainState(self.model, terms, self.optimizer, self.scaler)

    def _renew_optimizer(self) -> None:
        """Adam without memory; it is always over all parameters, and skips those that get no gradient."""
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.settings.lr, fused=True)

    @property
    def _log_path(self) -> Path:
        """The run's log; that of the other ranks, who compute the same numbers, goes nowhere."""
        return self.folder / "metrics.jsonl" if rank() == 0 else Path(os.devnull)

    @property
    def _checkpoints(self) -> Path:
        """Where the run's checkpoints lie."""
        return self.folder / "checkpoints"

    @property
    def _kept(self) -> Path:
        """Where the weights lie that stay for the whole run."""
        return self.folder / FOLDER


def recompute_audio(model: MultimodalModel, wanted: bool) -> None:
    """Let DaveNet keep its insides for the backward pass, or compute them again."""
    for module in model.modules():
        if isinstance(module, DaveNet):
            module.recompute = wanted


def freeze(model: MultimodalModel, modalities: Sequence[str]) -> None:
    """Let every tower train but those of the given modalities, whose running statistics rest as well."""
    for name, parameter in model.named_parameters():
        owner = name.split(".")[1].split("_in_")[0]
        parameter.requires_grad_(owner not in modalities)
    for modality in modalities:
        model.backbones[modality].eval()
    for name, head in model.heads.items():
        if name.split("_in_")[0] in modalities:
            head.eval()
