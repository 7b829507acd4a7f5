"""The paper's two theorems as experiments, in float64 with numpy and scipy alone.

`least_squares` is Theorem 1, `stationary` Theorem 2 with `exact` as its check without rounding, and
`network` Theorem 2 in a small nonlinear network. `sweep` runs them over N, r and m, `statements` says
what held, and `run` writes the table and the figure.
"""
