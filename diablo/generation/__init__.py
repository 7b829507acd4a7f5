"""Completions of evaluation prompts, greedy, by beams or drawn: vLLM and transformers behind one function.

Importing this package does not import torch: scoring and lm-eval take their prompts from it.
"""

from diablo.generation.run import generate

__all__ = ["generate"]
