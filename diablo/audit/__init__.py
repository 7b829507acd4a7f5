"""The paper audited from data alone: its tables against each other, its released code and its sources.

Nothing here imports torch, reads a model or needs a network. `docs/audit.md` says how to read what comes out.
"""
