"""Fine-tuning: one readable loop on top of transformers' Trainer.

`finetune.py` is the job from spec to adapter, `trainer.py` one optimiser step, `loss.py` the loss,
`examples.py` what is trained on, `checkpoints.py` and `steplog.py` what a restart needs. Causal models and
encoder-decoders (T5) differ in `examples.py` and one line of `loss.py` alone.
"""

from .finetune import finetune

__all__ = ["finetune"]
