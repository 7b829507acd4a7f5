"""What a step consists of, counted without a clock: products, copies, allocations, saved tensors."""

from collections import Counter

import pytest
import torch
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tuner_cases import ALL, llama, one_layer

from diablo import DiabloConfig, DiabloLinear

COPIES = {"clone", "copy_", "_to_copy", "cat", "constant_pad_nd", "index", "einsum", "contiguous"}
HIDDEN, INNER, LAYERS, TOKENS = 128, 256, 2, 14
WIDTHS = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS}


class Operations(TorchDispatchMode):
    """The operations that run inside, and the bytes of new memory that they ask for."""

    def __init__(self):
        super().__init__()
        self.names = Counter()
        self.allocated = 0
        # Storages by address; kept, so that no address is used twice. Not the tensors: autograd takes a
        # gradient over without a copy only if nobody else has it.
        self._known = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names[str(function.overloadpacket).removeprefix("aten.")] += 1
        given = {_address(t) for t in _tensors((args, kwargs))}
        out = function(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            if _address(tensor) not in given | self._known.keys():
                self._known[_address(tensor)] = tensor.untyped_storage()
                self.allocated += tensor.untyped_storage().nbytes()
        return out


def _tensors(values):
    """All tensors with a memory of their own: a sparse one is its parts."""
    for value in tree_leaves(values):
        if isinstance(value, torch.Tensor) and value.layout == torch.sparse_csr:
            yield from (value.crow_indices(), value.col_indices(), value.values())
        elif isinstance(value, torch.Tensor):
            yield value


def _address(tensor):
    return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("n", [8, 5])  # 8 divides both widths, 5 neither
@pytest.mark.parametrize("implementation", ["inplace", "adapter"])
def test_no_tensor_is_copied(implementation, n):
    layer = one_layer(128, 192, n, implementation)
    x = torch.randn(50, 128, requires_grad=True)
    grad = torch.randn(50, 192)
    layer(x)  # the first forward pass in place copies W0's blocks
    with Operations() as forward:
        out = layer(x)
    with Operations() as backward:
        out.backward(grad)
    if n == 8:
        assert not COPIES & {*forward.names, *backward.names}
    else:  # the cut block's gradient goes into a larger tensor
        assert not (COPIES - {"copy_"}) & {*forward.names, *backward.names}
    products = {"inplace": (0, 1), "adapter": (1, 2)}[implementation]
    parts = 1 if n == 8 else 2
    batched = [run.names["bmm"] + run.names["baddbmm_"] for run in (forward, backward)]
    assert batched == [parts * count for count in products]
    assert forward.names["addmm"] == 1
    assert backward.names["mm"] == 1  # the base layer's own input gradient


def test_thin_blocks_copy_no_more_than_their_gradient():
    layer = one_layer(24, 40, 8, "inplace")
    x, grad = torch.randn(50, 24, requires_grad=True), torch.randn(50, 40)
    out = layer(x)
    with Operations() as backward:
        out.backward(grad)
    assert backward.names["bmm"] == backward.names["mm"] == 1
    blocks, merged, input_grad = 8 * 3 * 5, 2 * 12 * 20, 50 * 24
    assert backward.allocated <= 4 * (2 * blocks + merged + input_grad)


def frozen():
    model = llama(**WIDTHS).requires_grad_(False)
    model.enable_input_require_grads()
    return model


def inplace(pattern="diagonal", **options):
    config = DiabloConfig(
        num_blocks=8,
        pattern=pattern,
        target_modules=list(ALL),
        implementation="inplace",
        init_weights=False,
    )
    model = get_peft_model(llama(**WIDTHS, **options), config)
    model.enable_input_require_grads()
    return model


def step(model):
    """One forward and backward pass, counted; the model has run before."""
    ids = torch.arange(TOKENS).view(2, TOKENS // 2)
    model(input_ids=ids).logits.sum().backward()
    with Operations() as forward:
        loss = model(input_ids=ids).logits.sum()
    with Operations() as backward:
        loss.backward()
    return forward, backward


def parameters_bytes(model):
    return sum(4 * p.numel() for p in model.parameters() if p.requires_grad)


def test_a_models_step_is_the_frozen_one_plus_the_block_gradients():
    model = inplace()
    (forward, backward), (plain_forward, plain_backward) = step(model), step(frozen())
    wrapped = sum(isinstance(m, DiabloLinear) for m in model.modules())
    assert wrapped == 5 * LAYERS

    # Forward: one write of a layer's blocks into its weight, and not a byte.
    more = forward.names - plain_forward.names
    assert {name: more[name] for name in more if name not in ("as_strided", "slice", "detach")} == {
        "add": wrapped
    }
    assert (
        not plain_forward.names - forward.names - Counter(t=wrapped, view=wrapped, linear=wrapped)
    )
    assert forward.allocated == plain_forward.allocated

    # Backward: the batched products, whose results the parameters' gradients are added to.
    products = ("mm", "addmm", "bmm", "baddbmm_")
    extra = {name: backward.names[name] - plain_backward.names[name] for name in products}
    assert extra == {"mm": 0, "addmm": 0, "bmm": wrapped, "baddbmm_": 0}
    assert backward.allocated == plain_backward.allocated + parameters_bytes(model)
    assert not COPIES & set(backward.names - plain_backward.names)


#: Products and gatherings that a pattern adds to a layer's backward pass.
GRADIENTS = {
    "blocks": {"bmm": 1, "index_select": 2},
    "inputs": {"bmm": 1, "index_select": 1},
    "outputs": {"bmm": 1, "index_select": 1},
    "entries": {"sparse_sampled_addmm": 1, "index_select": 0},
}
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm_", "sparse_sampled_addmm", "index_select")


@pytest.mark.parametrize("pattern", GRADIENTS)
def test_a_patterns_step_is_the_frozen_one_plus_a_write_and_a_gradient(pattern):
    model = inplace(pattern)
    (forward, backward), (plain_forward, plain_backward) = step(model), step(frozen())
    wrapped, trained = 5 * LAYERS, parameters_bytes(model)
    more = forward.names - plain_forward.names
    assert (more["add"], more["index_put_"]) == (wrapped, wrapped)
    assert all(forward.names[name] == plain_forward.names[name] for name in ("mm", "addmm", "bmm"))
    assert not COPIES & set(more)
    assert forward.allocated == plain_forward.allocated + trained  # the sums that are written

    extra = {name: backward.names[name] - plain_backward.names[name] for name in PRODUCTS}
    expected = {name: wrapped * GRADIENTS[pattern].get(name, 0) for name in PRODUCTS}
    assert extra == expected
    # Beside the blocks' gradients at most a copy of the inputs and of the output gradients of all layers.
    # Single entries take their places along: 8 bytes each, and zeros.
    widths = [
        (m.in_features, m.out_features) for m in model.modules() if isinstance(m, DiabloLinear)
    ]
    copies = sum(4 * TOKENS * (m1 + m2) for m1, m2 in widths)
    places = 0
    if pattern == "entries":
        places = 3 * trained + sum(8 * (m2 + 1) for _, m2 in widths)
    assert backward.allocated <= plain_backward.allocated + trained + copies + places
    assert copies < sum(4 * m1 * m2 for m1, m2 in widths) / 4  # (and far less than full gradients)


def saved(model, autocast=False):
    """Sizes in bytes of the distinct storages that a forward pass keeps for the backward pass."""
    kept = {}

    def keep(tensor):
        kept[_address(tensor)] = tensor
        return tensor

    ids = torch.arange(TOKENS).view(2, TOKENS // 2)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        loss = model(input_ids=ids).logits.sum()
    own = {_address(p) for p in model.parameters()}
    loss.backward()
    return Counter(
        tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own
    )


def test_saved_for_the_backward_pass_is_one_input_for_each_group_of_layers():
    """q, k and v share theirs, and so do gate and up; nothing else is kept beyond the frozen model."""
    shared = Counter({4 * TOKENS * HIDDEN: 2 * LAYERS, 4 * TOKENS * INNER: LAYERS})
    more = saved(inplace()) - saved(frozen())
    assert more == shared


def test_under_autocast_the_layers_share_the_cast_of_their_input():
    before = saved(frozen(), autocast=True)
    shared = Counter({2 * TOKENS * HIDDEN: 2 * LAYERS, 2 * TOKENS * INNER: LAYERS})
    assert not (saved(inplace(), autocast=True) - before) - shared
