"""Quantised base models: rounding, GPTQ, MagR, NF4 and LoftQ, layer by layer.

`run.quantize` is the job; nothing here imports torch until it is called.
"""
