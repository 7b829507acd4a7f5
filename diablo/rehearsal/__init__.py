"""The rehearsal: the paper scale's own specs on tiny random models and made-up files (docs/rehearsal.md).

`scale` makes the plan small, `sources` (with `rows`, `files`, `models`) makes the files that would be downloaded,
and `judge` plays the judge.
"""
