"""Ranks of a layer: the hooks' X and g_Y against those of a forward pass written out, and the verb's file."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_run import make_model
from torch.nn import functional as F

from diablo.analysis.ranks import describe, layer_matrices, ranks
from diablo.analysis.spectra import singular_values
from diablo.cli import main
from diablo.specs import ProbeSpec

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def examples():
    torch.manual_seed(5)
    made = []
    for length in (9, 5, 7, 12, 3):
        ids = torch.randint(3, 200, (length,))
        labels = torch.where(torch.arange(length) < 2, -100, ids)
        made.append({"input_ids": ids, "labels": labels})
    return made


def frozen():
    return make_model().double().requires_grad_(False)


def by_hand(model, layer, given):
    """X and g_Y of each module: the layer's arithmetic once more, its products watched one by one."""
    block, config = model.model.layers[layer], model.config
    targets = sum(int((example["labels"][1:] != -100).sum()) for example in given)
    found = {name: ([], []) for name in MODULES}
    for example in given:
        ids, watched = example["input_ids"][None], {}
        states = model.model(ids, output_hidden_states=True).hidden_states
        position = torch.arange(ids.shape[1])[None]
        cos, sin = model.model.rotary_emb(states[0], position)

        def product(module, x, name, watched=watched):
            x = x.detach() if not x.requires_grad else x
            out = F.linear(x, module.weight)
            out.retain_grad()
            watched[name] = (x, out)
            return out

        def heads(x, count):
            return x.view(1, -1, count, x.shape[-1] // count).transpose(1, 2)

        def rotated(x, cos=cos, sin=sin):
            half = x.shape[-1] // 2
            return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin

        hidden = states[layer].detach().requires_grad_(True)
        normed, attention = block.input_layernorm(hidden), block.self_attn
        q = rotated(heads(product(attention.q_proj, normed, "q_proj"), config.num_attention_heads))
        k, v = (
            heads(product(getattr(attention, name), normed, name), config.num_key_value_heads)
            for name in ("k_proj", "v_proj")
        )
        k = rotated(k)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        mixed = mixed.transpose(1, 2).flatten(2)
        hidden = hidden + product(attention.o_proj, mixed, "o_proj")
        normed = block.post_attention_layernorm(hidden)
        gate = F.silu(product(block.mlp.gate_proj, normed, "gate_proj"))
        inner = gate * product(block.mlp.up_proj, normed, "up_proj")
        hidden = hidden + product(block.mlp.down_proj, inner, "down_proj")
        for rest in model.model.layers[layer + 1 :]:
            hidden = rest(hidden, position_embeddings=(cos, sin), attention_mask=None)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        logits = F.linear(model.model.norm(hidden), model.lm_head.weight)
        labels = example["labels"][1:]
        loss = F.cross_entropy(logits[0, :-1], labels, ignore_index=-100, reduction="sum") / targets
        loss.backward()
        for name, (x, out) in watched.items():
            found[name][0].append(x[0].detach())
            found[name][1].append(out.grad[0])
    return {name: (torch.cat(x), torch.cat(g)) for name, (x, g) in found.items()}


@pytest.mark.parametrize("layer", [0, 1])
def test_hooks_see_what_a_forward_pass_by_hand_has(layer) -> None:
    given, model = examples(), frozen()
    pairs = layer_matrices(model, layer, given, batch_size=2)
    wanted = by_hand(frozen(), layer, given)
    assert [name.split(".")[-1] for name in pairs] == MODULES
    for name, (x, g) in pairs.items():
        other_x, other_g = wanted[name.split(".")[-1]]
        assert len(x) == sum(len(example["input_ids"]) for example in given)
        torch.testing.assert_close(x, other_x, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(g, other_g, rtol=1e-9, atol=1e-12)
    assert not any(module._forward_hooks for module in model.modules())


def test_their_product_is_the_weights_gradient() -> None:
    given, model = examples(), frozen()
    pairs = layer_matrices(model, 1, given, batch_size=5)
    weights = {name: model.model.layers[1].get_submodule(name).weight for name in pairs}
    for weight in weights.values():
        weight.requires_grad_(True)
    targets = sum(int((example["labels"][1:] != -100).sum()) for example in given)
    for example in given:
        out = model(input_ids=example["input_ids"][None], labels=example["labels"][None])
        (out.loss * (example["labels"][1:] != -100).sum() / targets).backward()
    for name, (x, g) in pairs.items():
        torch.testing.assert_close(x.t() @ g, weights[name].grad.t(), rtol=1e-5, atol=1e-7)


def test_rows_of_zeros_are_counted() -> None:
    # In the last layer only a labelled token's predecessor has a gradient of q's output.
    pairs = layer_matrices(frozen(), 1, examples(), batch_size=2)
    made = {one["name"].split(".")[-1]: one for one in describe(pairs, [0.9], "cpu")}
    assert made["q_proj"]["g"]["zero_rows"] == 2 * 5
    assert made["k_proj"]["g"]["zero_rows"] == 5
    assert made["q_proj"]["x"]["zero_rows"] == 0
    assert made["q_proj"]["x"] is made["v_proj"]["x"]
    assert (made["k_proj"]["inputs"], made["k_proj"]["outputs"]) == (32, 16)


@pytest.mark.parametrize("layer", [-1, 2])
def test_no_such_layer(layer) -> None:
    with pytest.raises(ValueError, match=f"layer = {layer}: the model has 2 layers"):
        layer_matrices(frozen(), layer, examples(), 2)


def probe(**changes):
    settings = {"name": "figure3", "layer": 1, "layer_from": "given", "examples": 6, "seed": 0}
    return ProbeSpec(**settings | {"thresholds": [0.9, 0.99]} | changes)


def test_the_verb_writes_the_ranks_of_a_trained_run(make_run, finetune) -> None:
    run = make_run(method="diablo", scale="demo", model="tiny", dataset="tiny", protocol=None)
    finetune(run)
    found = ranks(run.spec, probe(), run.folder, threads=1)
    written = json.loads((run.folder / "ranks" / "figure3.json").read_text())
    assert written == found
    assert written["probe"]["layer"] == 1
    assert (written["examples"], len(written["modules"])) == (6, 7)
    assert str(run.folder / "adapter" / "provenance.json") in written["provenance"]["inputs"]
    for module in written["modules"]:
        for matrix in (module["x"], module["g"]):
            assert matrix["rows"] == written["tokens"]
            assert 0 < matrix["rank"] <= min(matrix["rows"], matrix["width"])
            assert [(e["power"], e["threshold"]) for e in matrix["effective"]] == [
                (2, 0.9), (2, 0.99), (1, 0.9), (1, 0.99),
            ]  # fmt: skip
            assert matrix["effective"][0]["rank"] <= matrix["effective"][1]["rank"]


def test_the_trained_model_is_the_one_that_is_looked_at(make_run, finetune) -> None:
    from diablo.methods import load_for_inference

    run = make_run(method="diablo", protocol=None)
    finetune(run)
    model = load_for_inference(run.spec, run.folder / "adapter", "cpu", "float32")
    given = examples()
    pairs = layer_matrices(model, 0, given, 2)
    base = layer_matrices(make_model().requires_grad_(False), 0, given, 2)
    name = "mlp.down_proj"
    assert not torch.equal(pairs[name][0], base[name][0])
    assert len(singular_values(pairs[name][0])) == 36


def test_without_training_there_is_nothing_to_look_at(make_run) -> None:
    run = make_run(method="diablo")
    run.spec.data_path = None
    with pytest.raises(ValueError, match="run tiny: ranks are of fine-tuned models"):
        ranks(run.spec, probe(), run.folder)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "--probe: not valid JSON"),
        ('{"layr": 3}', "did you mean 'layer'"),
    ],
)
def test_a_bad_probe_is_named_on_the_command_line(make_run, capsys, given, words) -> None:
    run = make_run(method="diablo")
    assert main(["ranks", str(run.folder / "spec.json"), "--probe", given]) == 2
    assert words in capsys.readouterr().err
