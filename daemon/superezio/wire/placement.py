"""What is asked of the GPUs, and the decision with its reasons."""

from __future__ import annotations

from typing import Literal

from superezio.wire.message import Params, Result

Policy = Literal["best_fit", "spread", "exclusive", "coolest"]
#: A GPU in mode `prohibited` admits nothing, so that nobody can ask for one.
LeasableComputeMode = Literal["default", "exclusive_process"]


class PlacementParams(Params):
    """What is asked of the GPUs: `vram_bytes` on each of `count` GPUs.

    `split`: they are one amount, over exactly `count` GPUs if that is more than 1, else over as
    few as hold it. A GPU has to be of at least `min_compute_capability` (as in `8.6`), be in
    `compute_mode`, and with `no_display` drive none; one of which that is not known is refused.
    GPUs with a lease of the same user and `model`, a free name, go before others.
    """

    vram_bytes: int
    count: int = 1
    policy: Policy = "best_fit"
    prefer: list[str] = []
    avoid: list[str] = []
    min_compute_capability: str | None = None
    compute_mode: LeasableComputeMode | None = None
    no_display: bool = False
    model: str | None = None
    split: bool = False


class GpuReason(Result):
    """Why one GPU was chosen or passed over. `code` is stable, `message` is for people."""

    uuid: str
    index: int
    name: str
    admitted: bool
    chosen: bool
    code: str
    message: str
    free_bytes: int
    needed_bytes: int
    foreign_bytes: int
    reserved_bytes: int
    mig_index: int | None = None


class Placement(Result):
    """A decision with its reasons: `grant`, `wait` (may fit later) or `never`.

    `reserved` has the bytes by UUID of a grant, in the order of `chosen`. Of one that is split,
    `split_ratio` says in that order which part of it each is (their sum is 1), and `tensor_split`
    says so as llama.cpp's --tensor-split takes it. `quota` says which quota stands against it.
    """

    decision: Literal["grant", "wait", "never"]
    policy: Policy
    vram_bytes: int
    count: int
    chosen: list[str]
    gpus: list[GpuReason]
    summary: str
    split: bool = False
    reserved: dict[str, int] = {}
    split_ratio: list[float] = []
    tensor_split: str | None = None
    quota: str | None = None
