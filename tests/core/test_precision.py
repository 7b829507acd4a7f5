"""bfloat16 on a CPU only where the CPU has it."""

from __future__ import annotations

import pytest

import diablo.precision as precision


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """Sets what /proc/cpuinfo says; None: there is no such file."""

    def set_to(text):
        path = tmp_path / "cpuinfo"
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(precision, "CPUINFO", path)
        precision.native_bf16.cache_clear()

    yield set_to
    precision.native_bf16.cache_clear()


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("model name\t: X\nflags\t\t: fpu avx2 avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512bw\n", False),
        ("model name\t: avx512_bf16 bf16\nflags\t\t: fpu\n", False),
        ("", False),
    ],
)
def test_cpuinfo_is_read_by_its_flags(cpu, text, native):
    cpu(text)
    assert precision.native_bf16() is native


@pytest.mark.parametrize("native", [True, False])
def test_torch_is_asked_where_there_is_no_cpuinfo(cpu, monkeypatch, native):
    import torch

    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": native}, raising=False
    )
    cpu(None)
    assert precision.native_bf16() is native


def test_refusal_names_the_run_and_what_to_set(cpu):
    cpu("flags : avx2\n")
    for name in ("bf16", "bf16-pure"):
        with pytest.raises(ValueError, match=rf"run a-run: precision '{name}'.*precision: fp32"):
            precision.check_bf16("a-run", name, "cpu")
        precision.check_bf16("a-run", name, "cuda")
    precision.check_bf16("a-run", "fp32", "cpu")
    cpu("flags : avx512_bf16\n")
    precision.check_bf16("a-run", "bf16", "cpu")
