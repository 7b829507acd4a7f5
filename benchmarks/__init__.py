"""Speed, measured: what a training step costs in each form. Not part of the package `diablo`.

`python -m benchmarks.train_step` times one optimiser step, `python -m benchmarks.end_to_end` the whole
trainer on batches of real lengths, and `python -m benchmarks.precision` compares what the two forms
learn in 16 bits. Results are kept in `benchmarks/results/<device>.json`.
"""
