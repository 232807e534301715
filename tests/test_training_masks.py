"""Masks: ids and weights of a trajectory, in the templates of several model families."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from chat_tokenizers import CHATML, FAMILIES, byte_level, family
from hypothesis import given
from hypothesis import strategies as st
from strategies import NASTY, episodes, trajectories
from tokenizers import Tokenizer, decoders, models, trainers
from transformers import PreTrainedTokenizerFast

from step_ray.models import chat
from step_ray.models.encoding import TemplateError
from step_ray.react import Message, Span, format_turn, messages_of, to_messages
from step_ray.training.masks import (
    Counts,
    NothingToTrain,
    TooLong,
    Unfaithful,
    Weighted,
    Worthless,
    decode_spans,
    tokenize,
    tokenize_all,
    verdict_weights,
)
from step_ray.trajectory import Trajectory, Turn

families = pytest.mark.parametrize("name", FAMILIES)
OBSERVATIONS = (
    "You are in the middle of a room. Looking quickly around you, you see a cabinet 12.",
    "Nothing happens.",
    "You arrive at shelf 1. On the shelf 1, you see a mug 3.",
    "You take the mug 3 from the shelf 1.",
)
TURNS = (
    Turn("I look in the cabinet.", "go to cabinet 99", OBSERVATIONS[1], verdict="error"),
    Turn("That was wrong: it is a shelf.", "go to shelf 1", OBSERVATIONS[2], verdict="correction"),
    Turn("", "take mug 3 from shelf 1", OBSERVATIONS[3]),
)
VETOED = (dataclasses.replace(TURNS[0], executed=False, observation=""), *TURNS[1:])


def episode(turns: tuple[Turn, ...] = TURNS, instruction: str = "Find a mug.") -> Trajectory:
    return Trajectory(
        "id", "t", "env", "train", "", instruction, OBSERVATIONS[0], turns, 1.0, True, "success"
    )


def controls(tokenizer) -> set[int]:
    encoder = chat.renderer(tokenizer).encoder
    return {tokenizer.convert_tokens_to_ids(control) for control in encoder.controls}


# --- every family, any trajectory ---


@families
@given(trajectory=st.one_of(episodes(), trajectories()), mask=st.sampled_from(["partial", "none"]))
def test_any_trajectory(name, trajectory, mask):
    tokenizer = family(name)
    weights = verdict_weights(mask)
    in_chat = [s.turn for m in to_messages(trajectory) for s in m.spans if s.turn is not None]
    expected = [turn for turn in in_chat if weights[trajectory.turns[turn].verdict]]
    if not expected:
        with pytest.raises(NothingToTrain):
            tokenize(trajectory, tokenizer, mask)
        return
    sample = tokenize(trajectory, tokenizer, mask)
    # What is trained is the turns with a weight, whole, and nothing else.
    assert [span.turn for span in sample.spans] == expected
    assert [span.verdict for span in sample.spans] == [
        trajectory.turns[turn].verdict for turn in expected
    ]
    trained = {i for span in sample.spans for i in range(span.start, span.end)}
    assert trained == {i for i, weight in enumerate(sample.loss_weights) if weight}
    assert len(sample.input_ids) == len(sample.loss_weights)
    assert 0 not in trained
    # The tokens say exactly what was meant.
    assert decode_spans(sample, tokenizer) == [span.text for span in sample.spans]
    # Nothing in a text has become a control token, but for the one that ends a message.
    ends = {message.spans[-1].turn for message in to_messages(trajectory)}
    for span in sample.spans:
        said = sample.input_ids[span.start : span.end]
        inside = said[:-1] if span.turn in ends else said
        assert not controls(tokenizer) & set(inside)
        assert (said[-1] == chat.end_of_turn(tokenizer)) == (span.turn in ends)


@families
@given(trajectory=st.one_of(episodes(), trajectories()))
def test_the_quick_way_is_the_thorough_way(name, trajectory):
    """Every prefix of any chat is stable, as text and as ids, also where it is not checked."""
    rendering = chat.renderer(family(name))
    messages = to_messages(trajectory)
    pieces = rendering.render(messages)
    contents = ["".join(rendering.encoder.clean([s.text for s in m.spans])) for m in messages]
    rendering._check_prefixes(messages, contents, pieces)
    dicts = [
        {"role": m.role, "content": content} for m, content in zip(messages, contents, strict=True)
    ]
    text = family(name).apply_chat_template(dicts, tokenize=False)
    assert "".join(piece.text for piece in pieces) == text


@families
@given(trajectory=episodes())
def test_prompts_are_prefixes_of_what_is_trained(name, trajectory):
    tokenizer = family(name)
    sample = tokenize(trajectory, tokenizer, "none")
    starts = {span.turn: span.start for span in sample.spans}
    for index, turn in enumerate(trajectory.turns):
        past = trajectory.turns[:index]
        if not turn.executed or any(not before.executed for before in past):
            continue  # a message of two turns has boundaries of its own
        messages = messages_of(trajectory.instruction, trajectory.initial_observation, past)
        asked = chat.prompt_ids([message.as_dict() for message in messages], tokenizer)
        assert sample.input_ids[: starts[index]] == asked


@families
@given(
    nasty=st.lists(st.sampled_from([*NASTY, "<tool_call>", "<|end|>", "<", "|im_end|>"])),
    cuts=st.lists(st.integers(0, 60), max_size=3),
)
def test_controls_do_not_form_across_spans(name, nasty, cuts):
    tokenizer = family(name)
    text = "x" + "".join(nasty)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    spans = [Span(text[a:b], i) for i, (a, b) in enumerate(itertools.pairwise(edges))]
    messages = [Message("user", (Span(text),)), Message("assistant", tuple(spans))]
    plain = [Message("user", (Span("x"),)), Message("assistant", (Span("x", 0),))]
    rendering = chat.renderer(tokenizer)

    def count(chat_messages):
        found = [token for piece in rendering.render(chat_messages) for token in piece.ids]
        return sum(token in controls(tokenizer) for token in found)

    assert count(messages) == count(plain)
    for message in messages:
        cleaned = rendering.encoder.clean([span.text for span in message.spans])
        assert not rendering.encoder.control_in.search("".join(cleaned))


# --- what the mask does ---


@families
@pytest.mark.parametrize("turns", [TURNS, VETOED], ids=["execute", "veto"])
def test_an_error_is_context_and_never_trained(name, turns):
    tokenizer = family(name)
    sample = tokenize(episode(turns), tokenizer)
    assert [(span.turn, span.verdict) for span in sample.spans] == [
        (1, "correction"),
        (2, "correct"),
    ]
    said = decode_spans(sample, tokenizer)
    assert (
        said[0].strip().startswith("Thought: That was wrong: it is a shelf.\nAction: go to shelf")
    )
    assert said[1].strip().startswith("Action: take mug 3 from shelf 1")
    whole = tokenizer.decode(sample.input_ids)
    assert "cabinet 99" in whole  # it is seen
    assert not any("cabinet 99" in text or "Observation" in text for text in said)
    assert set(sample.loss_weights) == {0.0, 1.0}


def test_a_vetoed_error_shares_its_message_with_the_correction():
    tokenizer = family("chatml")
    sample = tokenize(episode(VETOED), tokenizer, "none")
    error, correction = sample.spans[:2]
    assert error.end == correction.start
    assert error.text == format_turn(VETOED[0].thought, VETOED[0].action) + "\n"
    assert not error.text.endswith("<|im_end|>")
    assert correction.text.endswith("<|im_end|>")
    unmasked = sample.loss_weights[error.start : error.end]
    assert unmasked == [1.0] * len(unmasked)
    masked = tokenize(episode(VETOED), tokenizer)
    assert masked.input_ids == sample.input_ids
    assert not any(masked.loss_weights[error.start : error.end])
    assert masked.loss_weights[correction.end - 1] == 1.0  # the end of turn is the last span's


def test_an_error_alone_in_its_message_does_not_train_the_end():
    sample = tokenize(episode((*TURNS, VETOED[0])), family("tiny"))
    assert sample.loss_weights[-1] == 0.0
    assert sample.input_ids[-1] == chat.end_of_turn(family("tiny"))


def test_policies():
    tokenizer = family("tiny")

    def trained(mask):
        sample = tokenize(episode(), tokenizer, mask)
        return {(s.verdict, sample.loss_weights[s.start]) for s in sample.spans}

    assert trained("none") == {("error", 1.0), ("correction", 1.0), ("correct", 1.0)}
    assert trained("corrections_only") == {("correction", 1.0)}
    assert trained({"correct": 0.5, "correction": 2}) == {("correct", 0.5), ("correction", 2.0)}
    only_error = episode((TURNS[0],))
    with pytest.raises(NothingToTrain, match="no turn has a weight"):
        tokenize(only_error, tokenizer)
    for bad in (
        "some",
        {"wrong": 1.0},
        {"correct": -1.0},
        {"correct": 0.0},
        {"correct": float("nan")},
    ):
        with pytest.raises(ValueError, match=r"mask|verdicts|weights"):
            verdict_weights(bad)


def test_counts():
    counts = Counts()
    given_ones = [episode(), episode((TURNS[0],)), episode(instruction="long " * 400)]
    samples = list(tokenize_all(given_ones, family("tiny"), "partial", 250, counts))
    assert (counts.samples, counts.nothing_to_train, counts.too_long) == (1, 1, 1)
    assert counts.tokens == len(samples[0].input_ids)
    assert counts.trained_tokens == sum(weight > 0 for weight in samples[0].loss_weights)
    assert counts.trained_turns == {"correction": 1, "correct": 1}


def test_text_that_the_tokenizer_has_no_tokens_for_is_not_trained():
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    words = ["<unk>", "<|im_start|>", "<|im_end|>"]
    letters = [chr(code) for code in range(32, 127)] + ["\n"]
    trainer = trainers.BpeTrainer(special_tokens=words, initial_alphabet=letters, vocab_size=120)
    backend.train_from_iterator(OBSERVATIONS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<|im_end|>", chat_template=CHATML
    )
    foreign = Turn("Über das Regal.", "go to shelf 1", OBSERVATIONS[2])
    with pytest.raises(Unfaithful, match=r"writes turn 0 as .*<unk>.* where .*Über"):
        tokenize(episode((foreign,)), tokenizer)
    counts = Counts()
    seen = dataclasses.replace(episode(), instruction="Über Regale.")  # read, and never said
    given_ones = [episode((foreign,)), episode(), seen]
    assert len(list(tokenize_all(given_ones, tokenizer, counts=counts))) == 2
    assert counts.unfaithful == 1


def test_weights_of_turns():
    tokenizer = family("tiny")
    sample = tokenize(episode(), tokenizer, "none", turn_weights=(0.5, 0.0, 3.0))
    assert [(s.turn, sample.loss_weights[s.start]) for s in sample.spans] == [(0, 0.5), (2, 3.0)]
    masked = tokenize(episode(), tokenizer, {"correct": 0.5}, turn_weights=(0.5, 1.0, 3.0))
    assert [(s.turn, masked.loss_weights[s.start]) for s in masked.spans] == [(2, 1.5)]
    assert masked.input_ids == sample.input_ids
    with pytest.raises(Worthless):
        tokenize(episode(), tokenizer, turn_weights=(1.0, 0.0, 0.0))
    for wrong, message in (
        ((1.0,), "1 weights for 3 turns"),
        ((1.0, -1.0, 1.0), "at least 0"),
        ((1.0, float("nan"), 1.0), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            tokenize(episode(), tokenizer, turn_weights=wrong)


def test_rewards_as_weights():
    tokenizer = family("tiny")
    half, none = (dataclasses.replace(episode(), reward=reward) for reward in (0.5, 0.0))
    counts = Counts()
    given_ones = [half, none, Weighted(none, (1.0, 1.0, 2.0))]
    samples = list(tokenize_all(given_ones, tokenizer, counts=counts, by_reward=True))
    assert [max(sample.loss_weights) for sample in samples] == [0.5, 2.0]
    assert (counts.samples, counts.worthless) == (2, 1)


# --- truncation ---


def test_long_trajectories_can_be_dropped():
    tokenizer = family("tiny")
    long = episode(tuple(Turn(f"Step {i}.", f"go to shelf {i}", "Shelf.") for i in range(40)))
    long = dataclasses.replace(long, id="long")
    for overlong, expected in (("truncate", (2, 1, 0)), ("drop", (1, 0, 1))):
        counts = Counts()
        made = list(tokenize_all([episode(), long], tokenizer, "partial", 300, counts, overlong))
        assert (counts.samples, counts.truncated, counts.too_long) == expected
        turns = sum(len(sample.spans) for sample in made if sample.id == long.id)
        assert counts.truncated_turns == (40 - turns if turns else 0)
    with pytest.raises(TooLong, match=r"tokens more than 300"):
        tokenize(long, tokenizer, max_length=300, overlong="drop")


@families
def test_truncation_leaves_whole_turns_out_after_the_prompt(name):
    tokenizer = family(name)
    turns = tuple(Turn(f"Step {i}.", f"go to shelf {i}", OBSERVATIONS[2]) for i in range(12))
    whole = tokenize(episode(turns), tokenizer)
    prompt = chat.prompt_ids([to_messages(episode(turns))[0].as_dict()], tokenizer)
    seen = set()
    for length in range(len(whole.input_ids), len(prompt), -9):
        try:
            sample = tokenize(episode(turns), tokenizer, max_length=length)
        except TooLong:
            break
        assert len(sample.input_ids) <= length
        assert sample.input_ids[: len(prompt)] == prompt
        assert [s.turn for s in sample.spans] == list(range(sample.truncated_turns, 12))
        assert decode_spans(sample, tokenizer) == [span.text for span in sample.spans]
        kept = sample.truncated_turns
        assert decode_spans(sample, tokenizer) == decode_spans(whole, tokenizer)[kept:]
        seen.add(kept)
    assert {0, 1, 11} <= seen  # no more than needed


def test_truncation_may_leave_nothing_to_train():
    turns = (TURNS[2], *(TURNS[0] for _ in range(8)))
    sample = tokenize(episode(turns), family("tiny"))
    with pytest.raises(NothingToTrain, match="its last that fit"):
        tokenize(episode(turns), family("tiny"), max_length=len(sample.input_ids) - 1)


def test_a_correction_goes_with_its_error():
    """A student that sees only the correction would learn to regret what it has not seen."""
    tokenizer = family("tiny")

    def shortened(turns):
        whole = tokenize(episode(turns), tokenizer)
        return tokenize(episode(turns), tokenizer, max_length=len(whole.input_ids) - 1)

    again = dataclasses.replace(TURNS[1], thought="Wrong again.")
    for turns in (TURNS, (*TURNS[:2], again, TURNS[2]), (*TURNS[:1], *TURNS)):
        sample = shortened(turns)
        last = len(turns) - 1
        if turns[1].verdict == "error":  # of two errors in a row the second is still seen
            assert (sample.truncated_turns, [s.turn for s in sample.spans]) == (1, [2, 3])
        else:
            assert (sample.truncated_turns, [s.turn for s in sample.spans]) == (last, [last])
    vetoed = shortened((TURNS[2], *VETOED))
    assert (vetoed.truncated_turns, [s.turn for s in vetoed.spans]) == (1, [2, 3])
    assert "cabinet 99" in tokenizer.decode(vetoed.input_ids)
    with pytest.raises(TooLong, match="with its error if it is a correction, does not fit"):
        shortened(TURNS[:2])
    counts = Counts()
    length = len(tokenize(episode(TURNS[:2]), tokenizer).input_ids) - 1
    assert not list(tokenize_all([episode(TURNS[:2])], tokenizer, "partial", length, counts))
    assert (counts.samples, counts.too_long) == (0, 1)


@given(trajectory=st.one_of(episodes(), trajectories()), share=st.floats(0, 1))
def test_truncation_agrees_with_trying_every_beginning(trajectory, share):
    """All of the chat, else the prompt and the most replies that fit and begin with no
    correction."""
    tokenizer = family("tiny")
    messages = to_messages(trajectory)
    replies = [i for i, message in enumerate(messages) if message.role == "assistant"]
    if not replies:
        return

    def ids(start):
        kept = messages[: replies[0]] + messages[start:]
        return [token for piece in chat.renderer(tokenizer).render(kept) for token in piece.ids]

    least = len(ids(replies[-1]))
    length = round(least + share * (len(ids(replies[0])) - least)) - 1
    expected = None
    for start in replies:
        first = trajectory.turns[messages[start].spans[0].turn].verdict
        if len(ids(start)) <= length and (start == replies[0] or first != "correction"):
            expected = start
            break
    if expected is None:
        with pytest.raises(TooLong):
            tokenize(trajectory, tokenizer, "none", length)
        return
    sample = tokenize(trajectory, tokenizer, "none", length)
    assert sample.input_ids == ids(expected)
    kept = [s.turn for m in messages[expected:] for s in m.spans if s.turn is not None]
    assert [span.turn for span in sample.spans] == kept
    before = messages[replies[0] : expected]
    assert sample.truncated_turns == sum(s.turn is not None for m in before for s in m.spans)


# --- templates that cannot be trained on ---


def chatml(template: str = CHATML) -> PreTrainedTokenizerFast:
    tokenizer = byte_level(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=template
    )


LAST_IS_DIFFERENT = CHATML.replace(
    "m['content'] +", "('' if loop.last else '<think></think>') + m['content'] +"
)
DROPS_THOUGHTS = CHATML.replace(
    "m['content'] +", "(m['content'] if loop.last else m['content'].split('Action:')[-1]) +"
)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (LAST_IS_DIFFERENT, r"not stable.*; token \d+ is 'q', that of the whole chat '<'"),
        (DROPS_THOUGHTS, "changes message 1: at character"),
        (CHATML.replace("m['content'] +", "m['content'] | upper +"), "leaves out message 0"),
        (CHATML.replace("'<|im_end|>\n'", "'\n'"), "without a control token"),
        (CHATML.replace("assistant\n", "assistant\n\n"), r"not stable"),
        ("{{ raise_exception('no chats here') }}", "no chats here"),
        ("{% for m in messages %}{{ m.nothing.at.all }}{% endfor %}", "refuses a chat"),
    ],
)
def test_templates_that_are_refused(template, message):
    tokenizer = chatml(template)
    with pytest.raises(TemplateError, match=message):
        tokenize(episode(), tokenizer)
    with pytest.raises(TemplateError, match=message):
        chat.end_of_turn(tokenizer)


def test_unstable_tokens_are_refused():
    # GPT-2's way of splitting joins the two line breaks only where the prompt ends.
    template = CHATML.replace("m['role'] + '\n'", "m['role'] + '\n\n'").replace(
        "assistant\n", "assistant\n\n"
    )
    tokenizer = chatml(template)
    if len(tokenizer("\n\n", add_special_tokens=False)["input_ids"]) == 2:
        backend = byte_level(["<|im_start|>", "<|im_end|>"])
        backend.train_from_iterator(["\n\n" * 3] * 50)
    with pytest.raises(TemplateError, match=r"not stable as tokens: token \d+ of a prompt is"):
        tokenize(episode(), tokenizer)


def test_no_template():
    tokenizer = chatml()
    tokenizer.chat_template = None
    with pytest.raises(TemplateError, match="no chat template"):
        tokenize(episode(), tokenizer)


def test_a_new_template_is_noticed():
    tokenizer = chatml()
    before = tokenize(episode(), tokenizer)
    tokenizer.chat_template = CHATML.replace("<|im_end|>\n", "<|im_end|>")
    assert len(tokenize(episode(), tokenizer).input_ids) < len(before.input_ids)
    tokenizer.chat_template = LAST_IS_DIFFERENT
    with pytest.raises(TemplateError):
        tokenize(episode(), tokenizer)


def test_models_that_only_answer_need_no_stable_template():
    messages = [message.as_dict() for message in to_messages(episode())[:-1]]
    tokenizer = chatml(LAST_IS_DIFFERENT)
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert chat.prompt_ids(messages, tokenizer) == expected
    with pytest.raises(TemplateError, match="no chats here"):
        chat.prompt_ids(messages, chatml("{{ raise_exception('no chats here') }}"))


# --- how much work it is ---


def test_one_rendering_a_sample(monkeypatch):
    tokenizer = chatml()
    turns = tuple(Turn(f"Step {i}.", f"go to shelf {i}", OBSERVATIONS[2]) for i in range(20))
    samples = [tokenize(episode(turns, f"Task {i}."), tokenizer) for i in range(4)]
    calls = []
    render = tokenizer.apply_chat_template
    monkeypatch.setattr(
        tokenizer, "apply_chat_template", lambda *a, **k: calls.append(1) or render(*a, **k)
    )
    again = [tokenize(episode(turns, f"Task {i}."), tokenizer) for i in range(10)]
    assert len(calls) == 10
    assert again[:4] == samples
