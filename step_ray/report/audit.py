"""The section of the mask audit: what ``step-ray audit`` found, if it was run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from step_ray.progress import compact, percent
from step_ray.report.charts import bar, esc
from step_ray.report.data import RunData, dictionary, number
from step_ray.report.parts import count, date


def audit(data: RunData) -> str:
    """Empty if there was no audit."""
    found = data.audit
    if not found:
        return ""
    return (
        f"{_verdict(found)}{_table(found)}"
        f'<div class="panels">{_lengths(found)}{_gradients(dictionary(found.get("gradients")))}'
        f"</div>{_spans(dictionary(found.get('spans')))}"
    )


def _verdict(found: dict[str, Any]) -> str:
    wrong = number(found.get("violation_count"))
    badge = "good" if wrong == 0 else "bad"
    compared = dictionary(found.get("compared_with_training"))
    said = [
        f"{count(found.get('samples'))} of {count(found.get('trajectories'))} trajectories, "
        f"tokenizer of {esc(found.get('tokenizer', '?'))}",
        f"{percent(number(found.get('trained_share')))} of {count(found.get('tokens'))} tokens are "
        "trained",
        f"{count(found.get('truncated'))} truncated",
    ]
    if compared:
        pairs = ", ".join(f"{esc(stage)} {count(n)}" for stage, n in compared.items())
        said.append(f"ids and weights compared with what was trained on: {pairs}")
    listed = found.get("violations")
    items = "".join(
        f"<li>{esc(what)}</li>" for what in (listed if isinstance(listed, list) else ())
    )
    wrongs = f'<div class="warning"><ul>{items}</ul></div>' if items else ""
    return (
        f'<p class="verdict-line"><span class="badge {badge}">{count(wrong)} violations</span>'
        f'{" · ".join(said)}</p><p class="note">Made {esc(date(found.get("created")))} with '
        "<code>step-ray audit</code>. A violation is a token with another weight than the mask "
        f"gives to what it is part of, or a trained text that nobody said.</p>{wrongs}"
    )


def _table(found: dict[str, Any]) -> str:
    mask = dictionary(found.get("mask"))
    rows = {str(k): dictionary(v) for k, v in dictionary(found.get("verdicts")).items()}
    most = max((number(row.get("tokens")) or 0.0 for row in rows.values()), default=0.0) or 1.0
    body = ""
    for verdict, row in rows.items():
        tokens, trained = (number(row.get(name)) or 0.0 for name in ("tokens", "trained_tokens"))
        weight = number(mask.get(verdict)) or 0.0
        body += (
            f'<tr><th scope=row>{esc(verdict)}</th><td class="wide">'
            f"{bar(tokens / most, 'quiet', 6)}{bar(trained / most, '', 6)}</td>"
            f"<td>{weight:g}</td><td>{count(row.get('turns'))}</td><td>{count(tokens)}</td>"
            f"<td>{count(trained)}</td></tr>"
        )
    return (
        '<div class="scroll"><table class="figures time"><thead><tr><th scope=col>Said in</th>'
        '<th scope=col class="wide"></th><th scope=col>Weight</th><th scope=col>Turns</th>'
        "<th scope=col>Tokens</th><th scope=col>Trained</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _lengths(found: dict[str, Any]) -> str:
    lengths = dictionary(found.get("lengths"))
    bins = [one for one in lengths.get("bins") or () if _is_bin(one)]
    if not bins:
        return ""
    most = max(one[2] for one in bins) or 1
    bars = "".join(
        f'<svg role="img" aria-label="{low:.0f} to {high:.0f} tokens: {n:.0f} samples">'
        f"<title>{low:.0f} to {high:.0f} tokens: {n:.0f}</title>"
        f'<rect x="0" width="100%" y="{100 - 100 * n / most:.1f}%" '
        f'height="{100 * n / most:.1f}%"/></svg>'
        for low, high, n in bins
    )
    facts = [f"median {count(lengths.get('median'))}", f"95 % below {count(lengths.get('p95'))}"]
    limit = number(found.get("max_length"))
    if limit:
        facts.append(f"limit {count(limit)}")
    return (
        '<div class="panel"><h3>Tokens of a sample</h3>'
        f'<div class="histogram">{bars}</div><div class="ends"><span>{count(lengths.get("min"))}'
        f"</span><span>{count(lengths.get('max'))}</span></div>"
        f'<p class="caption">{" · ".join(facts)}</p></div>'
    )


def _is_bin(one: Any) -> bool:
    return isinstance(one, Sequence) and len(one) == 3 and all(number(v) is not None for v in one)


def _gradients(found: dict[str, Any]) -> str:
    if not found:
        return ""
    body = ""
    for verdict, row in dictionary(found.get("verdicts")).items():
        figures = [number(dictionary(row).get(n)) for n in ("loss", "masked", "unmasked", "cosine")]
        cells = "".join(f"<td>{'–' if v is None else compact(v)}</td>" for v in figures)
        body += (
            f"<tr><th scope=row>{esc(verdict)}</th><td>{count(dictionary(row).get('tokens'))}</td>"
            f"{cells}</tr>"
        )
    heads = "".join(
        f"<th scope=col>{a}<small>{b}</small></th>"
        for a, b in (
            ("Said in", ""),
            ("Tokens", ""),
            ("Loss", "nats"),
            ("Gradient", "masked"),
            ("Gradient", "unmasked"),
            ("Cosine", "with the whole"),
        )
    )
    return (
        '<div class="panel"><h3>What pulls at the model</h3><div class="scroll">'
        f'<table class="figures"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="caption">Norms of what each verdict adds to the gradient of '
        f"{esc(found.get('checkpoint', '?'))} on {count(found.get('samples'))} samples, under the "
        f"mask and with weight 1; norm of the whole {compact(number(found.get('whole')) or 0.0)}."
        "</p></div>"
    )


def _spans(found: dict[str, Any]) -> str:
    texts = ""
    for verdict, spans in found.items():
        items = "".join(
            f"<li><small>{esc(str(span.get('trajectory'))[:12])}, turn {esc(span.get('turn'))}"
            f'</small><span class="text">{esc(span.get("text"))}</span></li>'
            for span in (spans if isinstance(spans, list) else ())
            if isinstance(span, dict)
        )
        texts += f"<h4>{esc(verdict)}</h4><ul class=spans>{items}</ul>" if items else ""
    if not texts:
        return ""
    return f"<details><summary>What trained tokens say, decoded</summary>{texts}</details>"
