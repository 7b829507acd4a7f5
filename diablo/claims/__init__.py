"""The paper's sentences as predicates over table cells, judged on reported and on reproduced numbers.

`model` has the words of `workflow/claims.yaml`, `addresses` finds the cells that it names, `margins` turns
predicates into quantities that must be above zero or near it, `reading` (printed) and `reproduced` measure these
quantities, `judge` says what follows, and `run` is the verb. Nothing here imports torch, trains or downloads.
"""
