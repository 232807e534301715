"""A small Llama and its tokenizer, made on the spot from the user's own text.

What comes out is a normal Hugging Face folder, so everything that takes a 7B takes this too. It
is what the default recipes run on where there are no weights to download.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from step_ray.models.quiet import quiet

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message['role']) }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Two control tokens a message and nothing else: every token of a tiny context counts."""

MAX_POSITIONS = 4096
_MAX_ID = 39  # numbers up to this one, with the blank before them, are one token each
_ID = re.compile(r" \d{1,2}(?!\d)")
# What WebShop's pages are full of: what stands between two pieces, and the codes of products.
_CODE = r"\bB0[A-Z0-9]{8}\b"
_WHOLE = re.compile(rf" \[SEP\]|{_CODE}")
_WORDS = (  # GPT-2's, behind what is whole
    rf" \[SEP\]| (?={_CODE})|{_CODE}|'s|'t|'re|'ve|'m|'ll|'d"
    r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
_BLANK = "Ġ"  # how byte-level BPE writes a blank


def make_tokenizer(texts: Iterable[str], vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of ``texts`` with the project's chat template.

    Any text can be encoded and decodes to itself. Object ids (" 12" of "cabinet 12") up to 39 are
    single tokens whatever the texts, so a model can copy them in one step. So are the product codes
    ("B0R0E1WMFX") and " [SEP]" where the texts hold them; they come on top of ``vocab_size``. The
    vocabulary is smaller if the texts do not hold that many different words.

    Raises ``ValueError`` if ``vocab_size`` cannot even hold the bytes, ids and control tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = list(_id_merges())
    room = vocab_size - len(ids)
    if room < len(alphabet) + 1 + len(ROLES) + 1:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: bytes, ids and control tokens alone need "
            f"{len(ids) + len(alphabet) + 2 + len(ROLES)}"
        )
    special = [PAD, *ROLES, END]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=room,
        initial_alphabet=alphabet,
        special_tokens=special,
        show_progress=False,
    )
    texts = list(texts)
    whole = sorted({found for text in texts for found in _WHOLE.findall(text)})
    # Neither ids, which get merges below, nor what is whole should cost the learner any of its own.
    learner.train_from_iterator((_ID.sub("", _WHOLE.sub("", text)) for text in texts), trainer)
    vocab, merges = _add_merges(learner, ids)

    for text in whole:
        vocab.setdefault(text.replace(" ", _BLANK), len(vocab))

    # These are words like others and no control tokens: those may not come from the world.
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=bool(whole)))
    tokenizer.pre_tokenizer = _words() if whole else learner.pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        bos_token=None,
        unk_token=None,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
        padding_side="right",
    )


def make_llama(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden: int = 192,
    layers: int = 6,
    heads: int = 6,
    kv_heads: int = 2,
    intermediate: int = 512,
    max_positions: int = MAX_POSITIONS,
    seed: int = 0,
) -> LlamaForCausalLM:
    """A freshly initialised float32 Llama for ``tokenizer``; the same for the same arguments.

    Decoding on a CPU waits for the keys and values of long contexts to come from memory, so a few
    ``kv_heads`` shared by all ``heads`` make it several times as fast.

    Raises ``ValueError`` for a head dimension under 32 or one that ``heads`` does not divide
    (common CPU attention kernels of serving engines refuse smaller ones), and for ``heads`` that
    ``kv_heads`` does not divide.
    """
    if hidden % heads or hidden // heads < 32:
        raise ValueError(
            f"hidden {hidden} over {heads} heads: the head dimension must be a whole number >= 32"
        )
    if heads % kv_heads:
        raise ValueError(f"{heads} heads cannot share {kv_heads} key-value heads evenly")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    path: str | Path,
    dtype: torch.dtype | str | None = None,
) -> Path:
    """Writes model and tokenizer as a normal Hugging Face folder (safetensors); returns its path.

    ``dtype`` ("bfloat16" halves the files) is that of the written weights; the model is unchanged.
    """
    target = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    if target is not None and target != model.dtype:
        model = copy.deepcopy(model).to(target)
    with quiet():
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
    return path


def _words() -> pre_tokenizers.PreTokenizer:
    """Splits texts into words as byte-level BPE does, and never what is whole."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _id_merges() -> Iterator[tuple[str, str]]:
    """BPE merges that make " 0" to " 39" single tokens, left to right."""
    for digit in range(10):
        yield _BLANK, str(digit)
    for number in range(10, _MAX_ID + 1):
        yield f"{_BLANK}{number // 10}", str(number % 10)


def _add_merges(
    learner: Tokenizer, first: list[tuple[str, str]]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The learner's vocabulary and merges with the ``first`` ones put before them."""
    vocab: dict[str, int] = learner.get_vocab()
    learned = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    for left, right in first:
        vocab.setdefault(left + right, len(vocab))
    # `first` outranks what was learned: a learned "12" must not take the digits of " 12" away.
    return vocab, first + [pair for pair in learned if pair not in set(first)]
