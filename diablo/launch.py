"""One job in several processes of this machine, each with a GPU of its own. No torch until it starts."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from diablo.gpus import VISIBLE, available

#: What a user can cause, and is told in one line (`diablo.cli`).
MISTAKES = (ValueError, OSError, FloatingPointError)

#: One process may be at work alone for as long as it takes; if one ends, so do the others.
PATIENCE = timedelta(days=7)


def launch(processes: int, job: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """Call `job(*arguments, **options)` in so many processes that `diablo.training.together` joins.

    One process is this one. Several are new interpreters that end with this one; the k-th sees the k-th
    of the GPUs that this one sees, and no other.

    Args:
        job: a function at the top of a module; it and all that it is given can be pickled.

    Raises:
        ValueError: there are GPUs, but fewer than processes: some would wait for the others on a CPU.
        ValueError, OSError, FloatingPointError: what a process raised.
        torch.multiprocessing.ProcessException: it failed in any other way; has its traceback.
    """
    if processes == 1:
        return job(*arguments, **options)
    available(processes)
    from torch import multiprocessing

    mistakes: Any = multiprocessing.get_context("spawn").SimpleQueue()
    # Bytes, for a process to hide the other GPUs first: what it imports may start CUDA (bitsandbytes).
    call = pickle.dumps(partial(job, *arguments, **options))
    # In memory: however this process ends, no file is left.
    descriptor, parent = os.memfd_create("diablo-store"), os.getpid()
    store = f"/proc/{parent}/fd/{descriptor}"
    try:
        multiprocessing.spawn(
            _process, (processes, parent, store, mistakes, call), nprocs=processes
        )
    except multiprocessing.ProcessRaisedException:
        if mistakes.empty() or os.environ.get("DIABLO_DEBUG"):
            raise
        raise mistakes.get() from None
    finally:
        os.close(descriptor)


def check_division(where: str, batch_size: int, gpus: int) -> None:
    """ValueError, which names `where`, unless a step's examples can be dealt out to `gpus` evenly."""
    if batch_size % gpus:
        possible = [count for count in range(1, batch_size + 1) if batch_size % count == 0]
        raise ValueError(
            f"{where}: batch_size = {batch_size} cannot be dealt out evenly to gpus = {gpus}; give gpus one "
            f"of {', '.join(map(str, possible))}"
        )


def _process(
    rank: int, processes: int, parent: int, store: str, mistakes: Any, call: bytes
) -> None:
    """The process `rank` of a job: joins the others through the file `store`, and makes the pickled call."""
    import torch
    from torch import distributed, multiprocessing

    # Whatever ends the first process, kill -9 too: none goes on without it.
    multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]
    if os.getppid() != parent:  # it had ended before that
        os._exit(1)
    _keep_one_gpu(rank)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(
        backend,
        init_method=f"file://{store}",
        rank=rank,
        world_size=processes,
        timeout=PATIENCE,
    )
    try:
        pickle.loads(call)()
    except MISTAKES as error:
        mistakes.put(error)
        raise
    # Not after an error: it may wait for the others, who wait for this one until it has ended.
    distributed.destroy_process_group()


def _keep_one_gpu(rank: int) -> None:
    """Hide all GPUs from this process but the one of its rank. Before CUDA starts."""
    visible = os.environ.get(VISIBLE)
    if visible is None:
        os.environ[VISIBLE] = str(rank)
    elif "," in visible:
        os.environ[VISIBLE] = visible.split(",")[rank]


#: Frozen weights that take more of a GPU's memory than this are sharded (`diablo.training.sharding`); the rest is for
#: activations and what trains.
SHARE = 0.6


def dealt(batch_size: int, micro_batch_size: int, processes: int) -> int:
    """Examples of a forward pass: `micro_batch_size`, or fewer, so that all processes have as many."""
    if processes == 1:
        return micro_batch_size
    passes = -(-batch_size // (processes * micro_batch_size))
    return -(-batch_size // (processes * passes))


def not_sharded(spec: Any, artifact: str) -> str | None:
    """Why a run's weights cannot be sharded, in words; None if they can."""
    reasons = {
        f"method {spec.method!r} trains the weights themselves": artifact == "model",
        f"method {spec.method!r} looks at all weights' gradients before it starts": spec.calibration,
        "`gradient_examples` looks at all weights' gradients": _given(spec, "gradient_examples"),
        "its base model is quantised": _given(spec, "quantized"),
        "its mask lies where the adapter was made": spec.mask_adapter,
    }
    return next((reason for reason, given in reasons.items() if given), None)


def _given(spec: Any, key: str) -> Any:
    return getattr(spec, key, None)
