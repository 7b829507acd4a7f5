"""Blocks at chosen places, against a dense float64 matrix; what every layout must do is in the cases."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel, get_peft_model
from test_tuner_structure import COPIES, Operations
from torch import nn
from tuner_cases import CHOSEN, batch, blocks, diablo_layers, llama

from diablo import DiabloConfig

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 6e-2}


def layer_of(m1, m2, size, positions, implementation, bias=False, dtype=torch.float32):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(m1, m2, bias=bias).to(dtype)).requires_grad_(False)
    config = DiabloConfig(
        block_size=size, block_positions={"0": positions}, implementation=implementation
    )
    (layer,) = diablo_layers(get_peft_model(model, config))
    parameter = layer.diablo_blocks["default"]
    parameter.data = torch.randn_like(parameter).to(torch.promote_types(dtype, torch.float32))
    return layer


def dense(parameter, m1, m2, positions):
    """D, entry by entry from the definition of a position."""
    _, size, _ = parameter.shape
    matrix = torch.zeros(m1, m2, dtype=torch.float64)
    for block, (i, j) in zip(parameter.double(), positions, strict=True):
        matrix[i * size : (i + 1) * size, j * size : (j + 1) * size] += block
    return matrix


@st.composite
def chosen(draw):
    """Widths, edge and distinct positions: from one block to all, so in one or several gatherings."""
    size, rows, columns = (draw(st.integers(1, 5)) for _ in range(3))
    every = [[i, j] for i in range(rows) for j in range(columns)]
    order = draw(st.permutations(every))
    return rows * size, columns * size, size, order[: draw(st.integers(1, len(every)))]


@settings(max_examples=60)
@given(
    shape=chosen(),
    implementation=st.sampled_from(["inplace", "adapter"]),
    dtype=st.sampled_from(list(TOLERANCE)),
    lead=st.sampled_from([(5,), (2, 3), (0,)]),
    bias=st.booleans(),
)
def test_outputs_and_gradients_equal_the_dense_reference(shape, implementation, dtype, lead, bias):
    m1, m2, size, positions = shape
    layer = layer_of(m1, m2, size, positions, implementation, bias, dtype)
    parameter = layer.diablo_blocks["default"]
    x = torch.randn(*lead, m1, dtype=dtype, requires_grad=True)
    grad = torch.randn(*lead, m2, dtype=dtype)
    matrix = dense(parameter.detach(), m1, m2, positions).requires_grad_()
    wide = x.detach().double().requires_grad_()
    weight = layer.base_layer.weight.detach().double().T.clone()
    expected = wide @ (weight + matrix)
    if bias:
        expected = expected + layer.base_layer.bias.double()
    expected.backward(grad.double())
    # The gradient of block k is that of its entries of D.
    wanted = torch.stack(
        [matrix.grad[i * size : (i + 1) * size, j * size : (j + 1) * size] for i, j in positions]
    )
    out = layer(x)
    out.backward(grad)
    assert parameter.grad.dtype == parameter.dtype
    for got, want in ((out, expected), (x.grad, wide.grad), (parameter.grad, wanted)):
        scale = 1 + (want.abs().max().item() if want.numel() else 0)
        torch.testing.assert_close(
            got.double(), want, rtol=0, atol=TOLERANCE[dtype] * scale, check_stride=False
        )
    delta = layer.get_delta_weight("default").double()
    assert torch.equal(delta.T, dense(parameter.detach(), m1, m2, positions))


@settings(max_examples=30)
@given(shape=chosen())
def test_the_weight_changes_in_the_chosen_entries_alone(shape):
    m1, m2, size, positions = shape
    layer = layer_of(m1, m2, size, positions, "inplace")
    before = layer.base_layer.weight.detach().clone()
    layer.merge()
    matrix = dense(layer.diablo_blocks["default"].detach(), m1, m2, positions).T
    changed = layer.base_layer.weight != before
    assert torch.equal(changed, matrix != 0)
    layer.unmerge()
    assert torch.equal(layer.base_layer.weight, before)


TOKENS, WIDTH, EDGE = 50, 128, 16


@pytest.mark.parametrize(("count", "gatherings"), [(8, 1), (20, 3)])
def test_the_gradient_gathers_no_more_than_there_is(count, gatherings):
    """8 blocks of edge 16 are as wide as the layer; more are taken in turns."""
    positions = [[n % 8, (n * 3 + n // 8) % 8] for n in range(count)]
    layer = layer_of(WIDTH, WIDTH, EDGE, positions, "inplace")
    x, grad = torch.randn(TOKENS, WIDTH, requires_grad=True), torch.randn(TOKENS, WIDTH)
    layer(x)  # the first forward pass copies W0's blocks
    with Operations() as forward:
        out = layer(x)
    assert not COPIES & {*forward.names}
    assert forward.names["addmm"] + forward.names["mm"] == 1
    assert forward.names["add"] == forward.names["index_put_"] == 1
    assert forward.allocated == 4 * TOKENS * WIDTH + 4 * count * EDGE**2  # the output and the sum
    with Operations() as backward:
        out.backward(grad)
    assert backward.names["bmm"] == gatherings
    assert backward.names["mm"] == 1
    blocks_, activation = 4 * count * EDGE**2, 4 * TOKENS * WIDTH
    gathered = 2 * 4 * count * TOKENS * EDGE  # each gathering's is freed before the next
    joined = blocks_ if gatherings > 1 else 0
    assert backward.allocated <= activation + gathered + blocks_ + joined


@pytest.mark.slow
def test_compile_trains_as_eager_does():
    for form in ("inplace", "adapter"):
        losses = []
        for compiled in (False, True):
            torch.manual_seed(0)
            config = DiabloConfig(implementation=form, **CHOSEN)
            model = get_peft_model(llama(), config).train()
            run = torch.compile(model, backend="aot_eager") if compiled else model
            optimizer = torch.optim.AdamW(blocks(model), lr=1e-2, fused=True)
            losses.append([])
            for _ in range(3):
                loss = run(**batch()).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses[-1].append(loss.item())
        assert losses[0][0] - losses[0][2] > 0.02
        assert losses[1] == pytest.approx(losses[0], abs=1e-3)


def test_saved_settings_are_plain_json(tmp_path):
    get_peft_model(llama(), DiabloConfig(**CHOSEN)).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["block_size"] == 4
    assert saved["block_positions"] == CHOSEN["block_positions"]


def test_diagonal_and_chosen_blocks_of_one_layer_add_up():
    model = get_peft_model(llama(), DiabloConfig(init_weights=False, **CHOSEN))
    diagonal = DiabloConfig(num_blocks=5, target_modules=["q_proj"], init_weights=False)
    model.add_adapter("diagonal", diagonal)
    layer = diablo_layers(model)[0]
    before = layer.base_layer.weight.detach().clone()
    expected = before + sum(layer.get_delta_weight(name) for name in ("default", "diagonal"))
    model.base_model.set_adapter(["default", "diagonal"])
    with torch.no_grad():
        model(**batch())
    torch.testing.assert_close(layer.base_layer.weight, expected)
    model.base_model.set_adapter("default")
    assert torch.equal(layer.base_layer.weight, before)


Q_PROJ = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 4}, "block_size and block_positions need each other.* 4 and None"),
        ({"block_positions": {"q": [[0, 0]]}}, "need each other.*None and"),
        ({"block_size": 0, "block_positions": {"q": [[0, 0]]}}, "block_size must be .*it is 0"),
        ({"block_size": 4, "block_positions": {}}, r"block_positions must map .*\{\}"),
        ({"block_size": 4, "block_positions": {"q": []}}, r"block_positions\['q'\].*not \[\]"),
        ({"block_size": 4, "block_positions": {"q": [[0, -1]]}}, r"\['q'\].*\[0, -1\]"),
        ({"block_size": 4, "block_positions": {"q": [[0, 1.5]]}}, r"\['q'\].*\[0, 1.5\]"),
        ({"block_size": 4, "block_positions": {"q": [[0]]}}, r"\['q'\].*\[0\]"),
        ({"block_size": 4, "block_positions": {"q": [[0, 1], [0, 1]]}}, r"\['q'\].*\[0, 1\] twice"),
        (
            {"block_size": 4, "block_positions": {"q": [[0, 1]]}, "num_blocks_pattern": {"q": 2}},
            "num_blocks_pattern.*diagonal",
        ),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        DiabloConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"block_size": 5, "block_positions": {Q_PROJ: [[0, 0]]}},
            rf"{Q_PROJ}: block_size 5 must divide both 24 inputs and 24 outputs",
        ),
        (
            {"block_size": 4, "block_positions": {Q_PROJ: [[0, 0], [1, 6]]}},
            rf"{Q_PROJ}: .*\[1, 6\].*6 input blocks and 6 output blocks",
        ),
        (
            {"block_size": 4, "block_positions": {Q_PROJ: [[6, 1]]}},
            rf"{Q_PROJ}: .*\[6, 1\].*6 input blocks",
        ),
        (
            {"block_size": 4, "block_positions": {Q_PROJ: [[0, 0]], "nowhere": [[0, 0]]}},
            r"block_positions names \['nowhere'\], which this model does not have",
        ),
        (
            {**CHOSEN, "target_modules": ["q_proj", "up_proj"]},
            r"v_proj.*down_proj.*which target_modules .* leave out",
        ),
    ],
)
def test_positions_that_do_not_suit_the_model(options, message):
    with pytest.raises(ValueError, match=message):
        get_peft_model(llama(), DiabloConfig(**options))


def test_an_adapter_saved_for_a_wider_model(tmp_path):
    get_peft_model(llama(hidden_size=32), DiabloConfig(**CHOSEN)).save_pretrained(tmp_path)
    narrow = llama(intermediate_size=32)
    with pytest.raises(ValueError, match=r"down_proj: .*\[9, 5\].*8 input blocks"):
        PeftModel.from_pretrained(narrow, tmp_path)
