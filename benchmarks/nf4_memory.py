"""Peak memory of a training step on an NF4 base: QLoRA (LoRA) against DiaBlo, equal parameters.

    python -m benchmarks.nf4_memory --shape llama2-7b --layers 32

Random weights in the named shape, quantised by bitsandbytes on the device. Only square layers (q, k, v, o
without grouped queries) are trained, where rank m / (2 N) has exactly DiaBlo's number of parameters.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

import diablo

from .shapes import config
from .timing import RESULTS, free, record, timed

SQUARE = ["q_proj", "k_proj", "v_proj", "o_proj"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure both, print, record."""
    parser = argparse.ArgumentParser(prog="benchmarks.nf4_memory", description=__doc__)
    parser.add_argument("--shape", default="llama2-7b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("needs a CUDA GPU: the CPU's peak is measured in tests/methods")
    found = {}
    for name in ("lora", "diablo"):
        found[name] = measure(name, options)
        print(name, json.dumps(found[name]), flush=True)
        free()
    layers = options.layers or config(options.shape).num_hidden_layers
    key = f"{options.shape} x{layers} NF4 N={options.blocks} {options.batch}x{options.length}"
    record("nf4_memory", {key: {"forms": found}}, options.results)


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trainable parameters, peak memory in GiB and milliseconds of a step."""
    base = nf4_model(options.shape, options.layers)
    model = get_peft_model(base, adapter(name, base.config.hidden_size, options.blocks))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    shape = (options.batch, options.length)
    tokens = torch.randint(base.config.vocab_size, shape, device="cuda")

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss: Tensor = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    model.train()
    step()
    torch.cuda.reset_peak_memory_stats()
    times = sorted(timed(step, "cuda") for _ in range(options.steps))
    return {
        "trainable": sum(p.numel() for p in trained),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 4),
        "median_ms": round(times[len(times) // 2], 2),
    }


def adapter(name: str, hidden: int, blocks: int) -> Any:
    """Adapters of `hidden`^2 / `blocks` parameters a square layer."""
    if name == "lora":
        return LoraConfig(r=hidden // (2 * blocks), lora_alpha=16, target_modules=SQUARE)
    return diablo.DiabloConfig(num_blocks=blocks, target_modules=SQUARE)


def nf4_model(shape: str, layers: int | None, device: str = "cuda") -> Any:
    """A Llama of random weights whose decoder's linear layers are NF4; made layer by layer."""
    from bitsandbytes.nn import Linear4bit
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(config(shape, layers)).to(torch.bfloat16)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and "layers." in name:
            packed = Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=False,
                compute_dtype=torch.bfloat16,
                quant_type="nf4",
                device="cpu",
            )
            weight = torch.randn(layer.weight.shape, device=device, dtype=torch.bfloat16) / 50
            packed.weight.data = weight.cpu()
            model.set_submodule(name, packed.to(device))
    # Its frequencies are computed, not drawn.
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(device)
    for name, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            parent = model.get_submodule(name.rpartition(".")[0])
            real = torch.randn(parameter.shape, device=device, dtype=torch.bfloat16) / 50
            setattr(parent, name.rpartition(".")[2], nn.Parameter(real))
    return model.requires_grad_(False)


if __name__ == "__main__":
    main()
