"""Makes the packaged tiny model (models/play), in two lessons:

python -m step_ray.recipes.pretrain FIRST
python -m step_ray.recipes.pretrain OUT --start FIRST --seed 1 --episodes 5504

A small Llama reads aimless play (:mod:`step_ray.recipes.play`), each episode once; what the world
says counts less than what the agent says, because most of it cannot be known before. One process
and one pass over a stream, so none of the trainer's machinery is needed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from step_ray.envs import make_env
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.load import load_model, load_tokenizer
from step_ray.models.tiny import make_llama, make_tokenizer, save
from step_ray.react import format_turn, to_messages
from step_ray.recipes.play import aimless_play
from step_ray.teacher.base import Hint, ReviewRequest, correction_thought
from step_ray.teacher.expert import ExpertTeacher
from step_ray.trajectory import Trajectory

VOCABULARY_EPISODES = 400
LEXICON_GAMES = 120
VOCABULARY = 1280
OTHERS = 0.2  # loss weight of what the agent does not say
WINDOW = 32  # episodes sorted by length together, so that a batch has little padding
BATCH = 4  # episodes
MULTIPLE = 128  # lengths of batches, in tokens
PEAK, FINAL, WARMUP, DECAY = 3e-3, 0.03, 100, 0.25  # rate, its last share, steps, share of steps


def make_base(seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The untrained model and its tokenizer."""
    played = (
        message.content
        for episode in aimless_play(seed, VOCABULARY_EPISODES)
        for message in to_messages(episode)
    )
    tokenizer = make_tokenizer([*played, *lexicon(seed)], VOCABULARY)
    return make_llama(tokenizer, hidden=192, layers=4, heads=6, kv_heads=2, seed=seed), tokenizer


def lexicon(seed: int) -> Iterator[str]:
    """What experts and teachers say, for the tokenizer's vocabulary alone: their words should be
    whole tokens. The model never reads these texts."""
    env, rng = make_env("alfworld", games={"train": LEXICON_GAMES}, seed=seed), random.Random(seed)
    for task in env.tasks("train"):
        env.reset(task)
        past: list[str] = []  # what was possible once is the natural wrong action later
        while (expert := env.expert()) is not None:
            yield format_turn(expert.thought, expert.action)
            past += env.admissible()
            for action in rng.sample(past, 2):
                hint = Hint(env.judge(action), expert.thought, expert.action)
                key = repr(rng.random())
                request = ReviewRequest("", "", (), "", action, hint, key, executed=True)
                review = asyncio.run(ExpertTeacher().review(request))
                yield correction_thought(review, style="full")
                yield correction_thought(review, style="brief")
            if env.step(expert.action).terminated or rng.random() < 0.02:
                break


def learning_rate(step: int, steps: int) -> float:
    """Warm-up, constant, then linear decay to ``FINAL`` of the peak."""
    left = (steps - step) / max(1.0, DECAY * steps)
    return PEAK * min(1.0, (step + 1) / WARMUP, FINAL + (1 - FINAL) * left)


def batches(
    episodes: Iterator[Trajectory], tokenizer: PreTrainedTokenizerBase, seed: int
) -> Iterator[list[list[int]]]:
    """Batches of token ids, of similar length, in a reproducible random order."""
    order = torch.Generator().manual_seed(seed)
    while window := list(itertools.islice(episodes, WINDOW)):
        ids = sorted((_ids(episode, tokenizer) for episode in window), key=len)
        cut = [ids[i : i + BATCH] for i in range(0, len(ids), BATCH)]
        yield from (cut[i] for i in torch.randperm(len(cut), generator=order).tolist())


def loss_of(
    model: PreTrainedModel, batch: Sequence[Sequence[int]], speaker: int, end: int
) -> tuple[torch.Tensor, int]:
    """Weighted mean cross-entropy of the next tokens (nats), and the number of tokens.

    ``speaker`` and ``end`` are the ids that open and close the agent's messages.
    """
    # Few different lengths: every new one costs memory and time in the kernels' cache.
    length = -(-max(map(len, batch)) // MULTIPLE) * MULTIPLE
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in batch])
    weights = torch.tensor(
        [[*_weights(row, speaker, end), *[0.0] * (length - len(row))] for row in batch]
    )
    targets, weights = ids[:, 1:], weights[:, 1:]
    real = weights > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(ids, use_cache=False)[0][:, :-1]
        logits = model.lm_head(hidden[real])
    losses = torch.nn.functional.cross_entropy(logits.float(), targets[real], reduction="none")
    return (losses * weights[real]).sum() / weights.sum(), sum(map(len, batch))


def _weights(ids: Sequence[int], speaker: int, end: int) -> Iterator[float]:
    """1 for what the agent says, with the end of its message, ``OTHERS`` for all else."""
    speaking = False
    for token in ids:
        yield 1.0 if speaking else OTHERS
        speaking = token == speaker or (speaking and token != end)


def pretrain(out: Path, start: Path | None, episodes: int, seed: int, save_every: int) -> None:
    """Trains and writes a Hugging Face folder with bfloat16 weights and ``recipe.json``.

    Without ``start`` it is the first lesson, from scratch; with it the second, in which the agent
    talks about what it sees (``aimless_play(talk=True)``).
    """
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    if start is None:
        model, tokenizer = make_base(seed)
    else:
        model, tokenizer = load_model(start, "float32"), load_tokenizer(start)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )
    speaker, end = tokenizer.convert_tokens_to_ids(["<|assistant|>", "<|end|>"])
    steps = episodes // WINDOW * (WINDOW // BATCH)
    stream = aimless_play(seed + 1, episodes // WINDOW * WINDOW, talk=start is not None)
    tokens, began, recent = 0, time.monotonic(), 0.0
    model.train()
    for step, batch in enumerate(batches(stream, tokenizer, seed)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        loss, count = loss_of(model, batch, speaker, end)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += count
        recent = loss.item() if step == 0 else 0.95 * recent + 0.05 * loss.item()
        if (step + 1) % 50 == 0:
            rate = tokens / (time.monotonic() - began)
            print(
                f"step {step + 1}/{steps} loss {recent:.3f} tokens {tokens / 1e6:.2f}M "
                f"{rate:,.0f} tokens/s",
                flush=True,
            )
        if save_every and (step + 1) % save_every == 0:
            save(model, tokenizer, out, "bfloat16")
    save(model, tokenizer, out, "bfloat16")
    recipe = {
        "lesson": 1 if start is None else 2,
        "start": start and model_fingerprint(start),
        "episodes": episodes,
        "seed": seed,
        "tokens": tokens,
        "last_loss": round(recent, 4),
        "torch": torch.__version__,
    }
    (out / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")


def _ids(episode: Trajectory, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    messages = [message.as_dict() for message in to_messages(episode)]
    ids: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    return ids


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, help="model of the first lesson")
    parser.add_argument("--episodes", type=int, default=11_008)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=0, help="steps; 0: at the end only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    pretrain(
        arguments.out, arguments.start, arguments.episodes, arguments.seed, arguments.save_every
    )


if __name__ == "__main__":
    main()
