"""Any trajectory in the templates of five model families: what is trained is what is meant.

A hundred trajectories a family; ``-m slow`` takes two thousand.
"""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from chat_tokenizers import CHATML, byte_level, family
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import episodes, trajectories
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from step_ray.models import chat
from step_ray.models.encoding import TemplateError
from step_ray.react import to_messages
from step_ray.training import table
from step_ray.training.masks import NothingToTrain, decode_spans, tokenize, verdict_weights
from step_ray.trajectory import Trajectory, Turn

# Qwen2.5 and the non-thinking Qwen3 models: ChatML with a system message of its own.
QWEN = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}" + CHATML
)
# The hybrid Qwen3 models show an (empty) thought in the last answer, and in no other.
THINKING = QWEN.replace(
    "m['content'] +",
    "('<think>\n\n</think>\n\n' if loop.last and m['role'] == 'assistant' else '') +"
    " m['content'] +",
)
NAMES = ("llama2", "llama3", "qwen", "chatml", "mistral")


def qwen(template: str = QWEN) -> PreTrainedTokenizerFast:
    tokenizer = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(
        [AddedToken(text, special=False) for text in ("<tool_call>", "<think>", "</think>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=template,
    )


TOKENIZERS = {name: qwen() if name == "qwen" else family(name) for name in NAMES}
families = pytest.mark.parametrize("name", NAMES)
masks = st.sampled_from(
    ["partial", "none", "corrections_only", {"correct": 0.5, "error": 0.25, "correction": 2.0}]
)


def check(name, trajectory, mask, folder):
    tokenizer = TOKENIZERS[name]
    rendering = chat.renderer(tokenizer)
    weights = verdict_weights(mask)
    messages = to_messages(trajectory)
    cleaned = [rendering.encoder.clean([s.text for s in m.spans]) for m in messages]
    end = tokenizer.convert_ids_to_tokens(chat.end_of_turn(tokenizer))
    meant = []  # (turn, text, whether it ends the message) of what the mask trains
    for message, texts in zip(messages, cleaned, strict=True):
        for number, span in enumerate(message.spans):
            if span.turn is not None and weights[trajectory.turns[span.turn].verdict]:
                meant.append((span.turn, texts[number], number == len(texts) - 1))
    if not meant:
        with pytest.raises(NothingToTrain):
            tokenize(trajectory, tokenizer, mask)
        return
    sample = tokenize(trajectory, tokenizer, mask)

    # Trained spans are the turns that are meant, and decode to exactly their text.
    assert [span.turn for span in sample.spans] == [turn for turn, _, _ in meant]
    said = decode_spans(sample, tokenizer)
    for found, (_, text, last) in zip(said, meant, strict=True):
        assert found.endswith(end) == last
        if last:
            found = found[: -len(end)]
        assert found.strip() == text.strip()  # some templates put a blank beside a content

    # Nothing else has a weight, and each token has that of its turn's verdict.
    expected = [0.0] * len(sample.input_ids)
    for span in sample.spans:
        weight = weights[trajectory.turns[span.turn].verdict]
        expected[span.start : span.end] = [weight] * (span.end - span.start)
    assert sample.loss_weights == expected
    everything = tokenize(trajectory, tokenizer, "none")
    assert everything.input_ids == sample.input_ids
    others = [s for s in everything.spans if s.turn not in {turn for turn, _, _ in meant}]
    assert not any(sum(expected[span.start : span.end]) for span in others)
    watched = [(s.start, s.end, s.verdict) for s in sample.masked]
    assert watched == [(s.start, s.end, s.verdict) for s in others]

    # The ids are those of the template's text at once; one message of two turns has a cut inside.
    dicts = [
        {"role": m.role, "content": "".join(texts)}
        for m, texts in zip(messages, cleaned, strict=True)
    ]
    text = tokenizer.apply_chat_template(dicts, tokenize=False)
    if all(len(message.spans) == 1 for message in messages):
        assert sample.input_ids == rendering.encoder.encode([text])[0]
    else:
        assert "".join(piece.text for piece in rendering.render(messages)) == text

    # It comes back from Parquet as it was.
    path = folder / "samples.parquet"
    made = table.from_samples([sample, everything])
    table.write(made, path)
    back = table.read(path)
    assert back.fingerprint == made.fingerprint
    assert back.names == (trajectory.id, trajectory.id)
    start, stop = back.offsets[:2]
    assert back.ids[start:stop].tolist() == sample.input_ids
    assert back.weights[start:stop].tolist() == sample.loss_weights
    codes = [-1] * len(sample.input_ids)
    for span in (*sample.spans, *sample.masked):
        codes[span.start : span.end] = [table.CLASSES.index(span.verdict)] * (span.end - span.start)
    assert back.verdicts[start:stop].tolist() == codes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


any_trajectory = st.one_of(episodes(), trajectories())


@families
@settings(max_examples=100)
@given(trajectory=any_trajectory, mask=masks)
def test_any_trajectory(name, folder, trajectory, mask):
    check(name, trajectory, mask, folder)


@pytest.mark.slow
@families
@settings(max_examples=2000, suppress_health_check=list(HealthCheck))
@given(trajectory=any_trajectory, mask=masks)
def test_two_thousand_trajectories(name, folder, trajectory, mask):
    check(name, trajectory, mask, folder)


def test_a_system_message_of_the_template_is_not_trained():
    turn = Turn("I look.", "look", "A room.")
    trajectory = Trajectory(
        "id", "t", "env", "train", "", "Do it.", "Room.", (turn,) * 3, 1.0, True, "success"
    )
    tokenizer = TOKENIZERS["qwen"]
    sample = tokenize(trajectory, tokenizer)
    assert "helpful assistant" in tokenizer.decode(sample.input_ids)
    assert not any("helpful assistant" in text for text in decode_spans(sample, tokenizer))


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        (THINKING, r"not stable.*; token \d+ is '<think>', that of the whole chat '(?!<think>)"),
        (
            QWEN.replace("m['content'] +", "m['content'].split('Thought:')[-1] +"),
            r"changes message 1: at character \d+ it writes ' I look for it",
        ),
    ],
    ids=["thoughts of the last answer alone", "thoughts cut out"],
)
def test_a_template_that_is_not_stable_is_refused_with_the_place(template, shown):
    turns = (Turn("I look.", "look", "A room."), Turn("I go.", "go to shelf 1", "Shelf."))
    trajectory = Trajectory(
        "id", "t", "env", "train", "", "Do it.", "Room.", turns, 1.0, True, "success"
    )
    tokenizer = qwen(template)
    with pytest.raises(TemplateError, match=shown):
        tokenize(trajectory, tokenizer)
    with pytest.raises(TemplateError):  # again: nothing is learned from a refusal
        tokenize(dataclasses.replace(trajectory, id="other"), tokenizer)
