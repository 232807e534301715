"""A run's pairs of trajectories as TRL's trainer for DPO reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from step_ray.bucket import Place, place
from step_ray.exchange.formats import LeftOut, Row, lines_of
from step_ray.exchange.records import ExchangeError
from step_ray.lineage import stage_records
from step_ray.synthesis.pairs import PAIRS, read_pairs
from step_ray.training.masks import MaskName
from step_ray.training.preferences import Pair


def pairs_of(given: str | Place, stages: Sequence[str] = ()) -> tuple[list[Path], list[Place]]:
    """The files of pairs in a run (of some of its stages), and the datasets they were made from.

    Raises ExchangeError if there are none, or the run is not on this machine.
    """
    source = place(given)
    if not isinstance(source, Path):
        raise ExchangeError(f"{source}: pairs are exported from the run's folder, not from copies")
    holding = {
        record["name"]: record
        for record in stage_records(source)
        if record["status"] == "done" and "pairs" in record["outputs"]
    }
    unknown = sorted(set(stages) - set(holding))
    if not holding:
        raise ExchangeError(f"{source}: no stage holds pairs; runs of the recipe eto have some")
    if unknown:
        raise ExchangeError(
            f"{source}: stage {', '.join(unknown)} holds no pairs; those that do are: "
            f"{', '.join(holding)}"
        )
    chosen = {name: record for name, record in holding.items() if not stages or name in stages}
    datasets: dict[str, Place] = {
        given["stage"]: source / given["stage"]
        for record in chosen.values()
        for given in record["identity"]["inputs"].values()
    }
    return [source / name / PAIRS for name in chosen], list(datasets.values())


def read_all(paths: Iterable[Path]) -> Iterator[Pair]:
    """The pairs of several files."""
    for path in paths:
        yield from read_pairs(path)


def trl_dpo(pair: Pair, mask: MaskName) -> Row:
    """TRL's row with whole ways on: chosen and rejected begin after the prompt that both share.

    Raises LeftOut for a chosen one that has nothing to train under ``mask``, and for one that ends
    with the environment's message.
    """
    sides = [lines_of(pair.chosen, mask), lines_of(pair.rejected, "none")]
    said = [[{"role": line.role, "content": line.content} for line in lines] for lines in sides]
    begin = 1 + 2 * pair.shared_turns
    if said[0][:begin] != said[1][:begin]:
        raise LeftOut("several_messages")  # a vetoed error shares its message with the correction
    return {"prompt": said[0][:begin], "chosen": said[0][begin:], "rejected": said[1][begin:]}
