"""What runs in the sandbox's own processes: the standard library only, and nothing of the project.

The processes start with `python -S -s -P` and an empty environment and import this folder alone, so that
neither the project, nor what is installed beside it, nor a secret is in their memory.
"""
