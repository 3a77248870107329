"""The doctor for recognizers: which contract fits one, and what every other that was tried scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.table import Table

from facedistill.config.schema import Config
from facedistill.data.faces import Pairs
from facedistill.data.sources.source import build_source
from facedistill.data.sources.verification_set import protocol_source
from facedistill.errors import DataError
from facedistill.evaluation.contracts import FEW, Contract, Space, Trials, interval, is_worse, presets, ranked
from facedistill.evaluation.scoring import device_for
from facedistill.evaluation.trial_pairs import of_people, of_protocol, of_views
from facedistill.runs.run import WeightsFile
from facedistill.system.progress import progress_bar
from facedistill.system.terminal import Output
from facedistill.system.text import command_line, shown
from facedistill.training.contract_check import given_by, open_recognizer, words_for

PAIRS, LEAST = 300, 60
RANKING = 100  # pairs whose thresholds decide the others, where the given contract is compared with the best
KEPT_AT = 160  # pixels, at least: faces are decoded once, for all sizes


def examine(parent: WeightsFile, config: Config, has_pairs: bool) -> None:
    """Try contracts on a recognizer, and print what each scores, the one given, and the words for the best.

    Args:
        config: its data are faces or, where it ``has_pairs``, a protocol; its image is what students would see.

    Raises:
        DataError: there are too few faces.
        WeightsError: the recognizer can't be asked.
    """
    torch.set_num_threads(config.trainer.threads)
    device = device_for(config.trainer.accelerator)
    pairs, what = _pairs(parent, config, has_pairs)
    trials = Trials(open_recognizer(parent, config.trainer.threads, device), pairs)
    given = given_by(parent, config.image)
    order = ranked(trials, given, watch=_watched)
    alike = [other for other in Space.of(trials.recognizer, given).neighbours(order[0]) if other not in order]
    for contract in _watched([other for other in alike if trials.asked(other) < FEW]):
        trials.similarity(contract, FEW)
    print(f"{shown(parent.weights)}, on {len(trials)} {what}; best first")
    Output().print_whole(_table(trials, given, order, alike))
    best = order[0]
    right, better = (trials.right(contract, RANKING) for contract in (given, best))
    if best == given:
        print("The contract that was given fits best.")
        return
    if is_worse(right, better):
        lost, won = (100 * float(part.mean()) for part in (right, better))
        print(f"The contract that was given is worse: {lost:.1f} % instead of {won:.1f} % of {len(right)} pairs.")
    else:
        print("The contract that was given is not measurably worse than the best of these.")
    print(f"The best: {command_line(words_for(best, parent, config.image))}")


def _pairs(parent: WeightsFile, config: Config, has_pairs: bool) -> tuple[Pairs, str]:
    seen = parent.contract.image or config.image
    size, cache = max(KEPT_AT, seen.resize), Path(config.cache_dir).expanduser()
    if has_pairs:
        found, what = of_protocol(protocol_source(config.data).protocol(size, cache, set()), PAIRS), "pairs"
    else:
        faces = build_source(config.data).faces(size, cache)
        if faces.identities:
            found, what = of_people(faces, PAIRS), "pairs of people"
        else:
            count = min(PAIRS, 2 * len(faces.train))
            found, what = of_views(faces, count), "pairs without labels: two views of one face, or of two"
    if len(found.same) < LEAST:
        raise DataError(f"data={config.data['name']} gives {len(found.same)} pairs, too few to tell contracts apart")
    return found, what


def _watched(contracts: Sequence[Contract]) -> Iterator[Contract]:
    """Contracts, beside a bar on a terminal that says how long they will take yet."""
    with progress_bar() as bar:
        yield from bar.track(contracts, description="trying contracts")


def _table(trials: Trials, given: Contract, order: Sequence[Contract], alike: Sequence[Contract]) -> Table:
    """The best by all pairs, and those ``alike`` that differ from the first in one thing by fewer."""
    table = Table("colours", "(x − mean) / std", "pixels", "crop", "pairs", "right, %", "95 %", "separation", "")
    alike = sorted(alike, key=lambda contract: -trials.separation(contract, FEW))
    for contract in (*order, *alike):
        count = trials.asked(contract)
        accuracy = trials.accuracy(contract)
        low, high = interval(accuracy, count)
        notes = [*(["given"] if contract == given else []), *presets(contract)]
        table.add_row(
            contract.colour,
            f"{_values(contract.mean)} / {_values(contract.std)}",
            str(contract.size),
            f"{contract.crop:g}",
            str(count),
            f"{100 * accuracy:.1f}",
            f"{100 * low:.1f} … {100 * high:.1f}",
            f"{trials.separation(contract, count):.2f}",
            ", ".join(notes),
        )
    return table


def _values(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else ", ".join(f"{value:.4g}" for value in values)
