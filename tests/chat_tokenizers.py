"""Small tokenizers and chat templates in the manner of the well-known model families."""

from __future__ import annotations

import functools

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from step_ray.models import tiny

TEXTS = [
    "Interact with a household to solve a task.\n\nYou are in the middle of a room.\n\n",
    "Thought: I should look at the cabinet first.\nAction: go to cabinet 12\n",
    "Observation: You arrive at shelf 1. On the shelf 1, you see a mug 3 and an é.\n  \n",
    "Thought: That was wrong, as nothing happens.\nAction: take mug 3 from shelf 1",
] * 10

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% for m in messages %}{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim }}"
    "{{ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@functools.cache
def family(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of one of :data:`FAMILIES`."""
    return {
        "tiny": lambda: tiny.make_tokenizer(TEXTS, vocab_size=400),
        "chatml": _chatml,
        "llama2": _llama2,
        "llama3": _llama3,
        "mistral": _mistral,
        "phi": _phi,
    }[name]()


FAMILIES = ("tiny", "chatml", "llama2", "llama3", "mistral", "phi")


def byte_level(controls: list[str | AddedToken], words: str | None = None) -> Tokenizer:
    """Byte-level BPE; ``words`` is how text is split first, GPT-2's way by default."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False)
        if words is None
        else pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(words), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=controls,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _chatml() -> PreTrainedTokenizerFast:
    tokenizer = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=CHATML
    )


def _llama3() -> PreTrainedTokenizerFast:
    controls = [f"<|{n}|>" for n in ("begin_of_text", "start_header_id", "end_header_id", "eot_id")]
    tokenizer = byte_level([*controls], _LLAMA3_WORDS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=controls[0],
        eos_token=controls[3],
        chat_template=LLAMA3,
    )


def _phi() -> PreTrainedTokenizerFast:
    """Control tokens that swallow the blanks after them."""
    names = ("<|user|>", "<|assistant|>", "<|end|>")
    tokenizer = byte_level([AddedToken(n, rstrip=True, normalized=False) for n in names])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=PHI
    )


def sentencepiece(controls: list[str]) -> Tokenizer:
    """BPE over characters with bytes for the unknown ones; blanks are part of words."""
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=[*controls, *alphabet], show_progress=False
    )
    words = [text.replace("\n", " ") for text in TEXTS]
    tokenizer.train_from_iterator(words, trainer)
    plain = Tokenizer.from_str(tokenizer.to_str())
    # Bytes are not control tokens: make the tokenizer anew without them being special.
    made = Tokenizer(plain.model)
    made.add_special_tokens(controls)
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return made


def _llama2() -> PreTrainedTokenizerFast:
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>"])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=LLAMA2,
    )


def _mistral() -> PreTrainedTokenizerFast:
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=MISTRAL,
    )
