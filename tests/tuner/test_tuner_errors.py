"""Every refusal is a ValueError that names the module and the numbers."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from tuner_cases import ALL, CASES, batch, blocks, diablo_layers, llama, outputs

from diablo import DiabloConfig
from diablo.tuner.ops import block_layout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_blocks": 0}, "num_blocks must be .*at least 1.* 0"),
        ({"num_blocks": -3}, "-3"),
        ({"num_blocks": 2.5}, "2.5"),
        ({"num_blocks": True}, "True"),
        ({"num_blocks_pattern": {"q_proj": 0}}, r"num_blocks_pattern\['q_proj'\].* 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\).* 1.0"),
        ({"dropout": -0.1}, "-0.1"),
        ({"implementation": "fast"}, "auto, inplace, adapter.*'fast'"),
        ({"bias": "some"}, "none, all, diablo_only.*'some'"),
        ({"implementation": "inplace", "dropout": 0.1}, "0.1.*implementation='adapter'"),
        ({"target_modules": "q", "layers_to_transform": [1]}, "layers_to_transform.*'q'"),
        ({"target_modules": "q", "layers_pattern": "layers"}, "layers_pattern.*'q'"),
    ],
)
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        DiabloConfig(**options)


def test_too_many_blocks_for_a_layer():
    with pytest.raises(ValueError, match=r"layers\.0\.self_attn\.q_proj: .*at most 24.*it is 25"):
        get_peft_model(llama(), DiabloConfig(num_blocks=25, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="24 inputs and 12 outputs"):
        block_layout(24, 12, 30)


def test_a_pattern_that_matches_nothing_is_reported():
    patterns = {"q_proj": 2, "qq_proj": 3}
    config = DiabloConfig(num_blocks=4, target_modules=ALL, num_blocks_pattern=patterns)
    with pytest.warns(UserWarning, match="num_blocks_pattern.*'qq_proj'"):
        model = get_peft_model(llama(), config)
    assert {layer.num_blocks["default"] for layer in diablo_layers(model)} == {2, 4}


def test_no_module_matched():
    with pytest.raises(ValueError, match="nothing_like_it"):
        get_peft_model(llama(), DiabloConfig(target_modules=["nothing_like_it"]))


def test_a_layer_of_the_wrong_type():
    with pytest.raises(ValueError, match=r"model\.embed_tokens: it is a Embedding"):
        get_peft_model(llama(), DiabloConfig(num_blocks=2, target_modules=["embed_tokens"]))


def test_a_layer_of_another_method():
    model = get_peft_model(llama(), LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match=r"q_proj: it already is a Linear of another PEFT method"):
        get_peft_model(
            model.base_model.model, DiabloConfig(num_blocks=2, target_modules=["q_proj"])
        )


class OwnLinear(nn.Linear):
    pass


@pytest.mark.parametrize("layer", [OwnLinear(8, 8), nn.Linear(8, 8).to(torch.float8_e4m3fn)])
def test_in_place_on_an_unsupported_base(layer):
    config = {"num_blocks": 2, "target_modules": ["0"]}
    with pytest.raises(
        ValueError, match=r"^0: implementation='inplace'.*Use .*'adapter' or 'auto'"
    ):
        get_peft_model(nn.Sequential(layer), DiabloConfig(implementation="inplace", **config))
    model = get_peft_model(nn.Sequential(layer), DiabloConfig(**config))
    assert diablo_layers(model)[0].implementation == {"default": "adapter"}


def test_tied_weights_are_never_trained_in_place():
    for kind in ("parameter", "storage"):
        base = llama(tie_word_embeddings=True)
        base.tie_weights()
        if kind == "storage":
            base.lm_head.weight = nn.Parameter(base.model.embed_tokens.weight.data)
        embedding = base.model.embed_tokens.weight.detach().clone()
        config = {"num_blocks": 2, "target_modules": ["lm_head"], "init_weights": False}
        with (
            pytest.warns(UserWarning, match="tie"),
            pytest.raises(ValueError, match=r"lm_head: .*shared"),
        ):
            get_peft_model(base, DiabloConfig(implementation="inplace", **config))
        with pytest.warns(UserWarning, match="tie"):
            model = get_peft_model(base, DiabloConfig(**config))
        assert diablo_layers(model)[0].implementation == {"default": "adapter"}
        model(**batch()).loss.backward()
        assert torch.equal(model.get_input_embeddings().weight, embedding)


def test_an_adapter_saved_for_other_shapes(tmp_path):
    get_peft_model(llama(), DiabloConfig(num_blocks=4, target_modules=ALL)).save_pretrained(
        tmp_path
    )
    other = llama(hidden_size=32)
    message = r"self_attn\.q_proj: .*\(4, 6, 6\).*32 inputs.*\(4, 8, 8\)"
    with pytest.raises(ValueError, match=message):
        PeftModel.from_pretrained(other, tmp_path)
    with pytest.raises(ValueError, match=message):
        PeftModel.from_pretrained(llama(hidden_size=32), tmp_path, low_cpu_mem_usage=True)


def test_mixed_batches_are_refused_by_name():
    model = get_peft_model(llama(), DiabloConfig(num_blocks=4, target_modules=ALL))
    names = ["default", "__base__"]
    with pytest.raises(ValueError, match=r"adapter_names.*__base__"):
        model(**batch(), adapter_names=names)
    with pytest.raises(ValueError, match=r"adapter_names.*__base__"):
        model.generate(input_ids=batch()["input_ids"], adapter_names=names, max_new_tokens=1)


def test_a_merge_that_is_not_finite_leaves_the_weight_alone():
    model = CASES[1].random
    layer = diablo_layers(model)[0]
    before = layer.base_layer.weight.detach().clone()
    with torch.no_grad():
        layer.diablo_blocks["default"].fill_(float("nan"))
    with pytest.raises(ValueError, match=r"q_proj: merging default .*not finite"):
        model.merge_adapter(safe_merge=True)
    assert torch.equal(layer.base_layer.weight, before)
    assert not layer.merged


def test_an_unknown_adapter_has_no_delta():
    layer = diablo_layers(CASES[1].random)[0]
    with pytest.raises(ValueError, match="no adapter 'absent'"):
        layer.get_delta_weight("absent")
    delta = layer.get_delta_weight("default")
    assert delta.shape == layer.base_layer.weight.shape


def test_unmerging_twice_warns():
    model = CASES[1].random
    with pytest.warns(UserWarning, match="Already unmerged"):
        model.unmerge_adapter()


def test_generate_equals_the_merged_model():
    model = CASES[1].random
    ids = batch()["input_ids"]
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    answer = model.generate(input_ids=ids, **options)
    merged = model.merge_and_unload()
    assert torch.equal(merged.generate(input_ids=ids, **options), answer)
    assert not blocks(merged)
    assert outputs(merged).isfinite().all()
