"""A workspace where the real workflow runs on a tiny random model in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from workspace import REPOSITORY, Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A folder with the repository's config.yaml and nothing built."""
    shutil.copy(REPOSITORY / "config.yaml", tmp_path)
    return Workspace(tmp_path)


@pytest.fixture
def tiny_workspace(workspace: Workspace, smollm2: Path) -> Workspace:
    """A workspace whose SmolLM2 is a tiny random model with the real tokenizer.

    The folder is there before Snakemake starts, so the rule that would build it has nothing to do.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from diablo.io import write_json

    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    folder = workspace.folder / "results" / "models" / "smollm2-135m"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / "provenance.json", {"model": "tiny random stand-in of the tests"})
    return workspace
