"""What identifies a model folder: a hash of everything in it that decides what the model says."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from step_ray.files import sha256_file
from step_ray.models.base import ModelError
from step_ray.trajectory import content_hash

_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "*.tiktoken",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
# Weights, configuration, tokenizer and template; not read-mes, optimizer states or logs.
_PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "adapter_config.json",
    "generation_config.json",
    *_TOKENIZER,
)

# Files from this size on are read once in a process, unless their inode, size or time changes.
_LARGE = 2**26


def model_fingerprint(path: str | Path, adapter: str | Path | None = None) -> str:
    """SHA-256 (hex) of the contents of a model folder; where the folder lies does not matter.

    With the folder of an ``adapter`` it stands for the two together.

    Raises :class:`ModelError` if the folder does not exist or holds no weights.
    """
    if adapter:
        return content_hash([model_fingerprint(path), model_fingerprint(adapter)], 64)
    folder = Path(path)
    if not folder.is_dir():
        raise ModelError(
            f"no model folder at {folder}: give the path of a folder with config.json, "
            "tokenizer files and *.safetensors"
        )
    files = _files(folder, _PATTERNS)
    if not any(found.suffix == ".safetensors" for found in files):
        raise ModelError(
            f"{folder} holds no *.safetensors: save the model with save_pretrained(), or convert "
            "its weights to safetensors"
        )
    return _hash_of_all(folder, files)


def tokenizer_fingerprint(path: str | Path) -> str:
    """SHA-256 (hex) of a model folder's tokenizer and chat template."""
    folder = Path(path)
    return _hash_of_all(folder, _files(folder, _TOKENIZER))


def _files(folder: Path, patterns: tuple[str, ...]) -> set[Path]:
    return {found for pattern in patterns for found in folder.glob(pattern) if found.is_file()}


def _hash_of_all(folder: Path, files: set[Path]) -> str:
    whole = hashlib.sha256()
    for found in sorted(files, key=lambda file: file.relative_to(folder).as_posix()):
        content = _content(found)
        whole.update(f"{found.relative_to(folder).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()


def _content(file: Path) -> str:
    stat = file.stat()
    if stat.st_size < _LARGE:
        return sha256_file(file)
    return _hash_of_large(file, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _hash_of_large(file: Path, *_state: int) -> str:
    return sha256_file(file)
