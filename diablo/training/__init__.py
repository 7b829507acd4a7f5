"""Fine-tuning: one readable loop on top of transformers' Trainer.

`finetune.py` is the job from spec to adapter, `trainer.py` one optimiser step, `loss.py` the loss,
`examples.py` what is trained on, `checkpoints.py` and `steplog.py` what a restart needs.
"""

from .finetune import finetune

__all__ = ["finetune"]
