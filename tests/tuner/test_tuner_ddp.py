"""DistributedDataParallel: two processes train as one process on both their batches does."""

import os

import pytest
import torch
import torch.distributed as dist
from peft import get_peft_model
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel
from tuner_cases import ALL, batch, llama

from diablo import DiabloConfig

STEPS = 3


def model(implementation):
    config = DiabloConfig(
        num_blocks=4, target_modules=list(ALL), implementation=implementation, init_weights=False
    )
    torch.manual_seed(7)
    return get_peft_model(llama(), config)


def train(wrapped, peft_model, batches):
    trained = [p for p in peft_model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(STEPS):
        for one in batches:
            (wrapped(**one).loss / len(batches)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach() for p in trained]


def worker(rank, folder, implementation):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    peft_model = model(implementation)
    wrapped = DistributedDataParallel(peft_model)
    torch.save(train(wrapped, peft_model, [batch(rank)]), f"{folder}/{rank}.pt")
    dist.barrier()
    # Not by returning: the wrapper's end waits for gloo's thread with the interpreter's lock held, and that thread
    # may be waiting for this lock.
    os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["inplace", "adapter"])
def test_two_processes_train_as_one(implementation, tmp_path):
    if not dist.is_gloo_available():
        pytest.skip("needs gloo, which this build of PyTorch lacks")
    multiprocessing.spawn(worker, (str(tmp_path), implementation), nprocs=2)
    alone = model(implementation)
    expected = train(alone, alone, [batch(0), batch(1)])
    start = [p.detach() for p in model(implementation).parameters() if p.requires_grad]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found, expected)
    assert not any(torch.equal(a, b) for a, b in zip(start, expected, strict=True))
