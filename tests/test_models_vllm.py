"""vLLM on this machine's CPU: the same replies as transformers, constrained ones, adapters."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from adapters import make_adapter

from step_ray.models.base import ModelError, Sampling

pytestmark = pytest.mark.vllm
ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 512,
    "max_num_seqs": 16,
}
GREEDY = Sampling(max_tokens=24)
SCHEMA = {
    "type": "object",
    "properties": {
        "is_error": {"type": "boolean"},
        "reason": {"type": "string", "maxLength": 12},
    },
    "required": ["is_error", "reason"],
    "additionalProperties": False,
}
PLACES = ["a drawer", "a shelf", "the sink", "a fridge", "a bed", "the desk", "a sofa", "a stove"]


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"You are in a room. Your task is to: {text}"}]


def other_end(folder: Path) -> Path:
    """The packaged model as base models with a chat template often are: what the configuration
    calls the end is not what ends a turn in the template."""
    from step_ray.models.load import load_tokenizer
    from step_ray.recipes.world import PACKAGED_MODEL

    shutil.copytree(PACKAGED_MODEL, folder)
    tokenizer = load_tokenizer(PACKAGED_MODEL)
    told = {"eos_token": tokenizer.pad_token, "eos_token_id": tokenizer.pad_token_id}
    for name in ("tokenizer_config.json", "generation_config.json", "config.json"):
        if (folder / name).exists():
            values = json.loads((folder / name).read_text("utf-8"))
            values |= {key: value for key, value in told.items() if key in values}
            (folder / name).write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    return make_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def vllm(adapter: Path) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        from step_ray.models.vllm import VllmModel
        from step_ray.recipes.world import PACKAGED_MODEL

        with asyncio.Runner() as runner:  # the engine belongs to the loop it was made in

            async def start() -> Any:
                return VllmModel(PACKAGED_MODEL, engine=ENGINE, adapters={"other": str(adapter)})

            model = runner.run(start())
            yield model, runner.run
            model.close()


def test_the_same_replies_as_transformers(vllm) -> None:
    from step_ray.models.local import LocalModel
    from step_ray.recipes.world import PACKAGED_MODEL

    model, run = vllm
    chats = [chat(f"put a mug in {place}.") for place in PLACES]

    async def ask(asked: Any) -> list[Any]:
        return list(await asyncio.gather(*(asked.chat(one, GREEDY) for one in chats)))

    with LocalModel(PACKAGED_MODEL, slots=8, max_length=512) as local:
        expected = asyncio.run(ask(local))
        assert local.fingerprint == model.fingerprint
    got = run(ask(model))
    assert [one.prompt_tokens for one in got] == [one.prompt_tokens for one in expected]
    same = sum(a.text == b.text for a, b in zip(got, expected, strict=True))
    assert same >= 6  # other kernels round otherwise, and near-ties then fall the other way


def test_seeds_and_more_prompt_than_is_read_at_once(vllm) -> None:
    model, run = vllm
    chats = [chat(f"{place} {'You see a mug and a pan. ' * 48}") for place in PLACES * 3]

    async def ask() -> list[Any]:
        warm = [Sampling(temperature=1.0, max_tokens=4, seed=seed) for seed in range(len(chats))]
        asked = zip(chats, warm, strict=True)
        return list(await asyncio.gather(*(model.chat(one, sampling) for one, sampling in asked)))

    replies = run(ask())
    assert sum(reply.prompt_tokens for reply in replies) > 8192
    assert all(reply.completion_tokens for reply in replies)


def test_a_seed_makes_the_reply(vllm) -> None:
    model, run = vllm
    warm = [Sampling(temperature=1.0, max_tokens=24, seed=seed) for seed in range(6)]

    async def ask() -> list[str]:
        replies = await asyncio.gather(*(model.chat(chat("look."), one) for one in warm))
        return [reply.text for reply in replies]

    first = run(ask())
    assert first == run(ask())
    assert len(set(first)) > 1


def test_a_schema_is_kept(vllm) -> None:
    model, run = vllm
    sampling = Sampling(temperature=1.0, max_tokens=64, seed=3)

    async def ask() -> list[Any]:
        each = (model.chat(chat(f"go to {place}."), sampling, SCHEMA) for place in PLACES)
        return list(await asyncio.gather(*each))

    for reply in run(ask()):
        said = json.loads(reply.text)
        assert sorted(said) == ["is_error", "reason"]
        assert isinstance(said["is_error"], bool)
        assert len(said["reason"]) <= 12


def test_a_stream_says_the_same(vllm) -> None:
    model, run = vllm

    async def pieces() -> list[Any]:
        return [piece async for piece in model.stream(chat("look."), GREEDY)]

    whole = run(model.chat(chat("look."), GREEDY))
    got = run(pieces())
    assert len(got) > 1
    assert "".join(piece.text for piece in got) == whole.text
    assert got[-1].completion_tokens == whole.completion_tokens
    assert got[-1].finish_reason == whole.finish_reason


def test_turns_share_their_beginning(vllm) -> None:
    model, run = vllm
    turns = chat("find " + "a mug and " * 120 + "leave.")
    first = run(model.chat(turns, GREEDY))
    turns += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "Go on."}]
    second = run(model.chat(turns, GREEDY))
    assert first.prompt_tokens > 256
    assert second.cached_tokens >= first.prompt_tokens - 128  # whole blocks are shared


def test_an_adapter_answers_otherwise(vllm) -> None:
    model, run = vllm
    other = model.with_adapter("other")
    assert other.fingerprint != model.fingerprint
    plain = run(model.chat(chat("look."), GREEDY))
    assert run(other.chat(chat("look."), GREEDY)).text != plain.text
    assert run(model.chat(chat("look."), GREEDY)).text == plain.text
    with pytest.raises(ModelError, match="known adapters: other"):
        model.with_adapter("third")


def test_what_does_not_fit_is_refused(vllm) -> None:
    model, run = vllm
    asked: Coroutine[Any, Any, Any] = model.chat(chat("a b c d " * 500), GREEDY)
    with pytest.raises(ModelError, match="512"):
        run(asked)


def test_engine_arguments_are_checked() -> None:
    from step_ray.config import parse_config
    from step_ray.models.make import check_engines
    from step_ray.models.vllm import VllmModel
    from step_ray.recipes.world import PACKAGED_MODEL

    for wrong in ("max_modle_len", "trust_remote_code"):
        with pytest.raises(ModelError, match=wrong):
            VllmModel(PACKAGED_MODEL, engine={wrong: 1})
    model = {"backend": "vllm", "model": str(PACKAGED_MODEL), "engine": {"max_modle_len": 9}}
    raw = {"output": "x", "teacher": {"type": "llm", "model": model}}
    with pytest.raises(
        ModelError, match=r"^teacher\.model\.engine\.max_modle_len: .*max_model_len"
    ):
        check_engines(parse_config(raw))
    model["engine"] = {"max_model_len": 512}
    check_engines(parse_config(raw))


def test_a_reply_ends_where_the_template_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from step_ray.models.local import LocalModel
    from step_ray.models.vllm import VllmModel

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    folder = other_end(tmp_path / "base")
    asked, long = chat("put a mug in a drawer."), Sampling(max_tokens=200)
    with LocalModel(folder, slots=1, max_length=512) as local:
        expected = asyncio.run(local.chat(asked, long))
    with asyncio.Runner() as runner:

        async def start() -> Any:
            return VllmModel(folder, engine=ENGINE)

        model = runner.run(start())
        got = runner.run(model.chat(asked, long))
        model.close()
    assert (got.text, got.finish_reason) == (expected.text, expected.finish_reason)
    assert got.finish_reason == "stop"
