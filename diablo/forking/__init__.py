"""Jobs of one Snakemake fork from one process that has imported what they all import (docs/decisions.md, "Reruns").

`companions` starts that process (`server`), `client` hands a verb over to it.
"""
