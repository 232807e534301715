"""Templates that are strict in the manner of the well-known families: what students and teachers
are asked always fits them, and what a person outside asks is refused with a reason."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from chat_tokenizers import byte_level, family
from transformers import PreTrainedTokenizerFast

from step_ray.envs.base import Judgement
from step_ray.models.chat import prompt_ids
from step_ray.models.encoding import TemplateError
from step_ray.react import messages_of
from step_ray.teacher.base import Hint, ReviewRequest
from step_ray.teacher.prompts import load_prompts, refused, render, unusable
from step_ray.training.masks import decode_spans, tokenize
from step_ray.trajectory import Trajectory, Turn

_ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
)
# Llama-2-chat: a system message goes into the first user message; roles alternate.
LLAMA2 = (
    "{% set first = messages[0]['role'] == 'system' %}"
    "{% set rest = messages[1:] if first else messages %}{% for m in rest %}"
    + _ALTERNATE
    + "{% set text = m['content'] %}"
    "{% if loop.index0 == 0 and first %}"
    "{% set text = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' + text %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
# Gemma: no system role at all; the assistant is called model.
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}" + _ALTERNATE + "{{ '<start_of_turn>' + "
    "('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim +"
    " '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# Llama-3.1: a system message of the template's own, with a date.
LLAMA3 = (
    "{{ bos_token }}{% set first = messages[0]['role'] == 'system' %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nKnowledge until: December 2023\n\n' }}"
    "{{ (messages[0]['content'] | trim if first else '') + '<|eot_id|>' }}"
    "{% set rest = messages[1:] if first else messages %}{% for m in rest %}"
    "{{ '<|start_header_id|>' + m['role'] +"
    " '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# Qwen3: thoughts of earlier answers are left out, the last answer shows (empty) ones.
QWEN3 = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages if m['role'] != 'system' %}{% set text = m['content'] %}"
    "{% if m['role'] == 'assistant' and '</think>' in text %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _gemma() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level(["<bos>", "<start_of_turn>", "<end_of_turn>"]),
        bos_token="<bos>",
        eos_token="<end_of_turn>",
        chat_template=GEMMA,
    )


def _with(name: str, template: str) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=family(name).backend_tokenizer, chat_template=template
    )
    tokenizer.add_special_tokens(
        {
            k: v
            for k, v in family(name).special_tokens_map.items()
            if k in ("bos_token", "eos_token")
        }
    )
    return tokenizer


TOKENIZERS = {
    "llama2": _with("llama2", LLAMA2),
    "gemma": _gemma(),
    "llama3.1": _with("llama3", LLAMA3),
    "qwen3": _with("chatml", QWEN3),
}
TURNS = (
    Turn("I look.", "look", "A room.\nNothing else."),
    Turn("I go.", "go to shelf 1", "On the shelf 1, you see a mug 3."),
)
EPISODE = Trajectory("id", "t", "env", "train", "", "Do it.", "Room.", TURNS, 1.0, True, "success")
HINT = Hint(Judgement(True, "loop", (("why", "nothing moves"),)), "I go.", "go")
REQUEST = ReviewRequest("Do it.", "Room.", TURNS, "I wait.", "wait", HINT, "e:2")
every = pytest.mark.parametrize("name", TOKENIZERS)


@every
def test_a_student_is_asked(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    for count in range(len(TURNS) + 1):
        chat = [one.as_dict() for one in messages_of("Do it.", "Room.", TURNS[:count])]
        text = tokenizer.decode(prompt_ids(chat, tokenizer))
        assert "Do it." in text
        assert (count == 0) == ("Observation" not in text)


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name != "qwen3"])
def test_a_student_is_trained_on_what_it_is_asked(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    sample = tokenize(EPISODE, tokenizer, "none")
    spans = decode_spans(sample, tokenizer)
    assert [turn.action in said for turn, said in zip(TURNS, spans, strict=True)] == [True, True]
    for index, span in enumerate(sample.spans):
        chat = [one.as_dict() for one in messages_of("Do it.", "Room.", TURNS[:index])]
        assert sample.input_ids[: span.start] == prompt_ids(chat, tokenizer)


def test_a_template_that_rewrites_answers_is_asked_but_not_trained() -> None:
    with pytest.raises(TemplateError, match="not stable"):
        tokenize(EPISODE, TOKENIZERS["qwen3"], "none")


@every
def test_a_teacher_is_asked(name: str) -> None:
    """Also again, after a reply that is no review and one that the world refuses: no system
    message, and roles that alternate."""
    prompts, tokenizer = load_prompts("alfworld"), TOKENIZERS[name]
    for form in ("judge", "reflect", "review"):
        chat = render(prompts, REQUEST, form, privileged=True)
        again = [*chat, *unusable("<|im_end|> Well.", "no JSON"), *unusable("Hm.", "no JSON")]
        other = [*chat, *refused(json.dumps({"action": "fly"}), "fly", "Nothing happens.")]
        lengths = [len(prompt_ids(one, tokenizer)) for one in (chat, again, other)]
        assert lengths[0] < min(lengths[1:])


@every
def test_what_people_outside_ask(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]
    twice = [{"role": "user", "content": "Hello."}, {"role": "user", "content": "Hello?"}]
    if name == "gemma":
        with pytest.raises(TemplateError, match="System role not supported"):
            prompt_ids(system, tokenizer)
    else:
        assert "Be brief." in tokenizer.decode(prompt_ids(system, tokenizer))
    if name in ("gemma", "llama2"):
        with pytest.raises(TemplateError, match="roles must alternate"):
            prompt_ids(twice, tokenizer)
    else:
        assert tokenizer.decode(prompt_ids(twice, tokenizer)).count("Hello") == 2
