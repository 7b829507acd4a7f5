"""Slow textbook versions in float64, straight from the papers, and a tiny model with text."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch


def problem(rows=6, columns=16, samples=40, seed=0):
    """A weight (rows, columns) and XᵀX of correlated inputs, float64."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    inputs = torch.randn(samples, columns, generator=generator, dtype=torch.float64) @ mix
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return weight, inputs.T @ inputs / samples


def textbook_grid(values, bits, symmetric=False, shrink=1.0):
    """Scale and zero point of one row's group, by scalars."""
    low, high = min(0.0, float(min(values))), max(0.0, float(max(values)))
    if symmetric:
        high = max(-low, high)
        low = -high
    top = 2**bits - 1
    scale = shrink * (high - low) / top
    if scale == 0:
        scale = 1.0
    scale = float(np.float32(scale))  # scales are stored in float32
    zero = (top + 1) // 2 if symmetric else float(np.rint(-shrink * low / scale))
    return scale, min(max(zero, 0), top), top


def textbook_round(value, scale, zero, top):
    return scale * (min(max(float(np.rint(value / scale)) + zero, 0), top) - zero)


def obq(weight, hessian, bits, group_size, damp, act_order=False, symmetric=False, shrink=1.0):
    """GPTQ as Optimal Brain Quantisation in one fixed order: explicit inverses of the Hessian of the
    columns that are left, every update made at once (GPTQ, equations 2 and 3)."""
    weight, hessian = weight.numpy().copy(), hessian.numpy().copy()
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1
    weight[:, dead] = 0
    rows, columns = weight.shape
    hessian += damp * np.diag(hessian).mean() * np.eye(columns)
    size = group_size or columns
    order = list(np.argsort(-np.diag(hessian), kind="stable")) if act_order else range(columns)
    original, result = weight.copy(), np.zeros_like(weight)
    left = list(order)
    grids = {}
    for column in order:
        inverse = np.linalg.inv(hessian[np.ix_(left, left)])
        group = column // size
        source = original if act_order or group_size is None else weight
        for row in range(rows):
            if (row, group) not in grids:
                members = source[row, group * size : (group + 1) * size]
                grids[row, group] = textbook_grid(members, bits, symmetric, shrink)
            value = textbook_round(weight[row, column], *grids[row, group])
            result[row, column] = value
            weight[row, left] -= (weight[row, column] - value) / inverse[0, 0] * inverse[0]
        left = left[1:]
    return torch.from_numpy(result)


def magr_by_solver(weight, hessian, alpha, group_size):
    """MagR's problem as a quadratic programme with bounds t_g ≥ |w_i|, by a generic solver (SLSQP)."""
    from scipy.optimize import minimize

    hessian = hessian.numpy() / np.linalg.eigvalsh(hessian.numpy())[-1]
    columns = weight.shape[1]
    size = group_size or columns
    groups = columns // size
    spread = np.kron(np.eye(groups), np.ones((size, 1)))  # t of each entry's group
    bounds = np.block([[-np.eye(columns), spread], [np.eye(columns), spread]])
    result = []
    for row in weight.numpy():

        def value(x, row=row):
            change = x[:columns] - row
            return 0.5 * change @ hessian @ change + alpha * x[columns:].sum()

        def slope(x, row=row):
            return np.concatenate([hessian @ (x[:columns] - row), np.full(groups, alpha)])

        start = np.concatenate([row, np.abs(row).reshape(groups, size).max(1)])
        constraint = {"type": "ineq", "fun": lambda x: bounds @ x, "jac": lambda x: bounds}
        options = {"ftol": 1e-16, "maxiter": 1000}
        found = minimize(
            value, start, jac=slope, constraints=[constraint], method="SLSQP", options=options
        )
        result.append(found.x[:columns])
    return torch.from_numpy(np.stack(result))


SETTINGS = {
    "name": "tiny-gptq-00000000",
    "model": "tiny",
    "quantizer": "gptq",
    "bits": 4,
    "group_size": 16,
    "samples": 4,
    "length": 24,
}


def tiny_llama(**changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = {
        "vocab_size": 200,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**{**config, **changes}))


def records(count):
    return [
        {
            "id": f"sum/{i}",
            "task": "sum",
            "instruction": "what is " + " plus ".join(f"n{(i * k) % 23}" for k in range(1, 6)),
            "output": f"the answer is n{i % 23}",
            "answer": str(i % 23),
        }
        for i in range(count)
    ]


def spec_of(tiny, **changes):
    """A QuantSpec of the tiny model."""
    from diablo.specs import QuantSpec

    paths = {"model_path": str(tiny / "model"), "calibration_path": str(tiny / "data")}
    return QuantSpec(**{**SETTINGS, **paths, **changes})


def job(tmp_path, spec):
    """A folder with the spec, as the workflow makes it."""
    from diablo.io import write_json

    folder = tmp_path / "demo" / "quantized" / spec.name
    write_json(folder / "spec.json", spec.model_dump())
    return SimpleNamespace(spec=spec, folder=folder, work=tmp_path / "demo" / ".work")
