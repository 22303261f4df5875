"""The work of a computation, counted on tensors without content: every operation, and the memory that lives at once."""

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.flop_counter import flop_registry

FREE = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "lift_fresh", "_local_scalar_dense"}
"""Operations that touch no number."""
PICKING = {"index", "index_select", "gather", "embedding"}
"""Operations that read of their input only what they put out."""
MATRIX_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
ROUNDS_OF_A_FIT = 4
"""Rounds over all rows that a warm-started k-means is worth: about seven are made, the later ones of few rows."""
MANY = 2**31 - 1
"""What a count that hangs on the data is taken for; slices end at their tensor's end anyway."""


@dataclass(frozen=True)
class Op:
    """One operation that a step does."""

    part: str
    """Part of the step."""
    kind: str
    """`gemm`, `conv_forward`, `conv_backward`, `norm_forward`, `norm_backward`, `fresh` or `inplace`."""
    dtype: str
    flops: int
    """Multiplications and additions of matrix products and convolutions; 0 for all else."""
    bytes: int
    """Read and written."""
    size: int | float
    """Smallest side of a matrix product, channels of a convolution, else bytes."""


class Tracer(TorchDispatchMode):
    """Writes down every operation inside; use it within `counting`.

    What hangs on the data is answered as if all clips were complete and all numbers finite: flags are true and their
    negations false, nothing is empty, every flagged row is taken, iterations converge after `ROUNDS_OF_A_FIT`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self.live_bytes = 0
        self.peak_bytes = 0
        self._part = ""
        self._rounds = 0
        self._known: set[int] = set()

    @contextmanager
    def repeated(self, times: int) -> Iterator[None]:
        """Operations inside are done so often, one round after the other, in the same memory."""
        first = len(self.ops)
        yield
        self.ops[first:] = self.ops[first:] * times

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Operations inside belong to this part of the step."""
        before, self._part = self._part, name
        yield
        self._part = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._overloadpacket.__name__
        if name in ("index", "index_put", "index_put_", "_unsafe_index"):
            args = (args[0], tree_map(_all_rows, args[1]), *args[2:])
        false = _is_false(name, args) or self._not_yet(name, args)
        out = _answered(func, name, args, kwargs, false=false)
        if false and isinstance(out, Tensor):
            out.is_false = True  # type: ignore[attr-defined]
        if func.namespace == "aten":
            inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
            outputs = [x for x in tree_flatten(out)[0] if isinstance(x, Tensor)]
            new = self._note_memory(outputs)
            if name == "_fused_adam_":
                self.ops.extend(self._updates(args[0]))
            elif not (func.is_view or name in FREE) and outputs:
                count = flop_registry.get(func._overloadpacket)
                flops = int(count(*args, **kwargs, out_val=out)) if count is not None else 0
                self.ops.append(self._op(name, flops, inputs, outputs, new=new))
        return out

    def _not_yet(self, name: str, args: Any) -> bool:
        """Whether a number that shrinks, as the change of a fit, is still above its limit, here or on the host."""
        if name not in ("le", "lt", "_local_scalar_dense") or args[0].ndim or not args[0].is_floating_point():
            return False
        self._rounds = (self._rounds + 1) % ROUNDS_OF_A_FIT
        return self._rounds > 0

    def _op(self, name: str, flops: int, inputs: list[Tensor], outputs: list[Tensor], *, new: bool) -> Op:
        """What an operation has to do."""
        moved = sum(map(_bytes, outputs)) * (2 if name in PICKING else 1)
        moved += 0 if name in PICKING else sum(map(_bytes, inputs))
        kind, size = _kind_and_size(name, inputs, moved, new=new)
        return Op(self._part, kind, NAMES.get(outputs[0].dtype, "float32"), flops, moved, max(float(size), 1.0))

    def _updates(self, parameters: list[Tensor]) -> Iterator[Op]:
        """One for each parameter: it, its gradient and two moments are read, all but the gradient are written."""
        for parameter in parameters:
            moved = 7 * _bytes(parameter)
            yield Op(self._part, "inplace", "float32", 0, moved, max(float(moved), 1.0))

    def _note_memory(self, outputs: list[Tensor]) -> bool:
        """Count memory that is new, until it is let go; whether there was any."""
        new = False
        for tensor in outputs:
            storage = tensor.untyped_storage()
            if storage._cdata in self._known:
                continue
            new = True
            self._known.add(storage._cdata)
            self.live_bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            weakref.finalize(storage, self._let_go, storage._cdata, storage.nbytes())
        return new

    def _let_go(self, key: int, size: int) -> None:
        """Some memory is free again."""
        self._known.discard(key)
        self.live_bytes -= size


@contextmanager
def counting() -> Iterator[Tracer]:
    """Tensors made inside have shapes and no content; what is done with them is counted.

    Yields:
        The counts so far.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), Tracer() as tracer:
        yield tracer


def _is_false(name: str, args: Any) -> bool:
    """Whether flags are those of what should not happen: of zeros, negations, and what is made of them."""
    if name == "eq" and not isinstance(args[1], Tensor):
        return bool(args[1] == 0)
    if not (args and isinstance(args[0], Tensor) and args[0].dtype == torch.bool):
        return False
    before = getattr(args[0], "is_false", False)
    return not before if name in ("bitwise_not", "logical_not") else before


def _answered(func: Any, name: str, args: Any, kwargs: Any, *, false: bool) -> Any:
    """What an operation gives, also where that hangs on numbers that are not there."""
    try:
        return func(*args, **kwargs)
    except DataDependentOutputException:
        dtype = args[0].dtype
        return not false if dtype == torch.bool else float(false) if dtype.is_floating_point else MANY
    except DynamicOutputShapeException:
        if name == "nonzero":
            return torch.empty(0 if false else args[0].numel(), args[0].ndim, dtype=torch.int64)
        if name == "bincount":
            return torch.empty(kwargs.get("minlength", 0) or args[-1], dtype=torch.int64)
        raise


def _all_rows(index: Any) -> Any:
    """The numbers of all rows in place of flags that are not known."""
    if isinstance(index, Tensor) and index.dtype == torch.bool and index.ndim == 1:
        return torch.empty(len(index), dtype=torch.int64)
    return index


def _kind_and_size(name: str, inputs: list[Tensor], moved: int, *, new: bool) -> tuple[str, int | float]:
    """The kind of an operation, and the size that decides its rate."""
    if name in MATRIX_PRODUCTS:
        left, right = inputs[-2:]
        return "gemm", min(left.shape[-2], left.shape[-1], right.shape[-1])
    if name.startswith("convolution"):
        backward = "backward" in name
        weight = inputs[2 if backward else 1]
        return f"conv_{'backward' if backward else 'forward'}", math.sqrt(weight.shape[0] * weight.shape[1])
    if "batch_norm" in name:
        return ("norm_backward" if "backward" in name else "norm_forward"), moved
    return ("fresh" if new else "inplace"), moved


def _bytes(tensor: Tensor) -> int:
    """Bytes that a tensor's numbers take; a broadcast one counts once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
