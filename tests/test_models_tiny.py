"""The tiny model: its tokenizer, its template, and the folder that is written."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from step_ray.models import tiny  # noqa: E402

TEXTS = [
    "You are in the middle of a room. You see a cabinet 12, a drawer 3 and a shelf 40.",
    "Thought: I go to cabinet 12.\nAction: go to cabinet 12",
    "Observation: Nothing happens. That is 12.50 dollars.",
] * 20
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Find the mug.\n\nYou see é, 12 and ✓."},
    {"role": "assistant", "content": "Action: go to cabinet 12"},
    {"role": "user", "content": "Observation: a mug 1"},
    {"role": "assistant", "content": "Action: take mug 1"},
]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.make_tokenizer(TEXTS)


def test_any_text_comes_back(tokenizer):
    text = "  Ünïcode ✓ \t\n 12.50 cabinet 123  <user> 日本\x01 trailing "
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_ids_are_single_tokens(tokenizer):
    for number in range(40):
        assert len(tokenizer(f" {number}")["input_ids"]) == 1
    assert len(tokenizer(" 40")["input_ids"]) == 2


def test_learned_numbers_do_not_break_ids():
    tokenizer = tiny.make_tokenizer(["pay 12.12 or x12 or 12 12"] * 100)
    assert len(tokenizer(" 12")["input_ids"]) == 1


def test_what_shop_pages_are_full_of_is_single_tokens():
    page = "Search [SEP] B0R0E1WMFX [SEP] Oak Chair [SEP] B0AAAAAAA1"
    tokenizer = tiny.make_tokenizer([page, "Action: click[B0R0E1WMFX]"] * 9, vocab_size=320)
    ids = tokenizer(page)["input_ids"]
    assert tokenizer.decode(ids) == page
    code, other = tokenizer.convert_tokens_to_ids(["B0R0E1WMFX", "B0AAAAAAA1"])
    assert ids.count(tokenizer.convert_tokens_to_ids("Ġ[SEP]")) == 3
    assert (ids.count(code), ids.count(other)) == (1, 1)
    clicked = "Action: click[B0R0E1WMFX]"
    assert tokenizer(clicked)["input_ids"].count(code) == 1, "the same after a bracket"
    assert tokenizer.decode(tokenizer(clicked)["input_ids"], skip_special_tokens=True) == clicked
    assert len(tokenizer("[B0BBBBBBB2]")["input_ids"]) > 4, "one that the texts lack is spelled"


def test_making_twice_gives_the_same():
    first, second = tiny.make_tokenizer(TEXTS), tiny.make_tokenizer(TEXTS)
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()


def test_vocabulary_is_bounded(tokenizer):
    assert len(tokenizer) <= 1024
    assert len(tiny.make_tokenizer(TEXTS, vocab_size=320)) <= 320
    with pytest.raises(ValueError, match="too small"):
        tiny.make_tokenizer(TEXTS, vocab_size=256)


def test_template_marks_what_the_assistant_says(tokenizer):
    out = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    said = [i for i, mask in zip(out["input_ids"], out["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(said) == "Action: go to cabinet 12<|end|>Action: take mug 1<|end|>"


def test_template_is_prefix_stable(tokenizer):
    whole = tokenizer.apply_chat_template(CHAT)["input_ids"]
    for end in range(1, len(CHAT) + 1):
        part = tokenizer.apply_chat_template(CHAT[:end])["input_ids"]
        assert whole[: len(part)] == part
    asked = tokenizer.apply_chat_template(CHAT[:4], add_generation_prompt=True)["input_ids"]
    assert whole[: len(asked)] == asked


def test_template_refuses_unknown_roles(tokenizer):
    with pytest.raises(Exception, match="unknown role tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}])


def test_model_is_a_function_of_its_arguments(tokenizer):
    before = torch.random.get_rng_state()
    first = tiny.make_llama(tokenizer, hidden=64, layers=1, heads=2, intermediate=64, seed=3)
    second = tiny.make_llama(tokenizer, hidden=64, layers=1, heads=2, intermediate=64, seed=3)
    other = tiny.make_llama(tokenizer, hidden=64, layers=1, heads=2, intermediate=64, seed=4)
    assert torch.equal(before, torch.random.get_rng_state())
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    weights = first.model.embed_tokens.weight, other.model.embed_tokens.weight
    assert not torch.equal(*weights)
    assert first.lm_head.weight is first.model.embed_tokens.weight


def test_small_heads_are_refused(tokenizer):
    with pytest.raises(ValueError, match="head dimension"):
        tiny.make_llama(tokenizer, hidden=64, heads=4)
    with pytest.raises(ValueError, match="evenly"):
        tiny.make_llama(tokenizer, hidden=96, heads=3)


def test_folder_is_a_normal_one(tokenizer, tmp_path: Path):
    model = tiny.make_llama(tokenizer, hidden=64, layers=1, heads=2, intermediate=64)
    tiny.save(model, tokenizer, tmp_path / "m", "bfloat16")
    assert model.dtype == torch.float32
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    assert (
        again.apply_chat_template(CHAT)["input_ids"]
        == tokenizer.apply_chat_template(CHAT)["input_ids"]
    )
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert loaded.dtype == torch.bfloat16
    assert loaded.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(tiny.END)
    assert [p.name for p in (tmp_path / "m").glob("*.safetensors")] == ["model.safetensors"]
