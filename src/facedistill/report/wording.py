"""Answers, effects and what they leave open, in words."""

from collections.abc import Sequence

from facedistill.config.groups import READINGS
from facedistill.report import rule
from facedistill.report.claims import Assessment, Finding, Part, expected_wrong
from facedistill.report.rule import POWER, WRONG, Answer
from facedistill.report.statistics import Effect
from facedistill.report.tables import METRICS

SYMBOLS = {
    Answer.REPRODUCED: "✓",
    Answer.CONTRADICTED: "✗",
    Answer.UNDECIDED: "?",
    Answer.VOID: "○",
    Answer.NOT_RUN: "–",
}
IN_POWER = f"{POWER:.0%} of".replace("%", " %")


def key_of(one: Assessment) -> str:
    """Of a claim under a reading, for names of files and anchors: ``C2``, ``C2-one-rate``."""
    return one.name if one.reading == READINGS[0] else f"{one.name}-{one.reading.replace('_', '-')}"


def signed(value: float | None) -> str:
    return "—" if value is None else f"{value:+.2f}".replace("-", "−")


def effect_in_words(effect: Effect | None) -> str:
    """Mean and 95 % interval: ``+1.20 (−0.31 to +2.70)``."""
    if effect is None:
        return "—"
    interval = "" if effect.low is None else f" ({signed(effect.low)} to {signed(effect.high)})"
    return signed(effect.mean) + interval


def p_in_words(p: float | None) -> str:
    return "—" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def answer_in_words(one: Assessment) -> str:
    """The answer and how far it goes; why it is void takes more words, see ``reasons``."""
    return f"{one.answer} ({one.scope})" if one.scope and one.answer is not Answer.VOID else str(one.answer)


def survival_in_words(one: Assessment) -> str:
    return ("yes" if one.survives else "no") if one.is_answered else "—"


def verdict(one: Assessment) -> str:
    """What is known of a claim, in a sentence or three."""
    if one.answer is Answer.VOID:
        return " ".join(reasons(one))
    if one.effect is None:
        return f"{_sentence(answer_in_words(one))}."
    seeds = len(one.effect.by_seed)
    parts = [
        f"{_sentence(answer_in_words(one))}: ours {effect_in_words(one.effect)} {one.unit} over {seeds} "
        f"seed{'s' * (seeds > 1)}",
        "the paper prints none of it" if one.paper is None else f"the paper's {signed(one.paper)}",
    ]
    found = [", ".join(parts)]
    if one.answer is Answer.UNDECIDED and one.detectable is not None:
        found.append(f"An effect of {one.detectable:.2f} {one.unit} would have been seen in {IN_POWER} such studies")
    if one.is_answered:
        kept = "survives" if one.survives else "does not survive"
        found.append(f"p {p_with_sign(one.p)}: the answer {kept} the correction over all claims")
    return ". ".join(found) + "."


def _sentence(text: str) -> str:
    """With a capital at its start; ``str.capitalize`` would make W_S0 of its words w_s0."""
    return text[:1].upper() + text[1:]


def p_with_sign(p: float | None) -> str:
    text = p_in_words(p)
    return text if text.startswith("<") else f"= {text}"


def reasons(one: Assessment) -> list[str]:
    """Why it or some of its comparisons are void and what would mend that, each once."""
    what = "Void" if one.answer is Answer.VOID else "Void in part"
    return [f"{what}: {why}." for why in dict.fromkeys(finding.why_void for finding in one.findings) if why]


def correction(assessed: Sequence[Assessment]) -> str:
    """How many wrong answers so many claims make one expect, and which answers survive a correction for that."""
    tested = [one for one in assessed if one.p is not None]
    if not tested:
        return "Nothing was tested yet: a claim needs two seeds."
    answered = [one for one in assessed if one.is_answered]
    kept, lost = ([one.title for one in answered if one.survives is survives] for survives in (True, False))
    level = f"{WRONG:.0%}".replace("%", " %")
    text = (
        f"{len(answered)} of {len(assessed)} claims and controls are answered. {len(tested)} were tested, and each is "
        f"answered wrongly in at most {level} of studies if there is no effect behind it: were there none at all, one "
        f"would have to expect up to {expected_wrong(assessed):.2g} wrong answers. "
    )
    if kept:
        text += f"If not one of all answers may be wrong (Holm), {_and(kept)} survive{'s' * (len(kept) == 1)}"
        return text + (f"; {_and(lost)} do{'es' * (len(lost) == 1)} not." if lost else ".")
    return text + "If not one of all answers may be wrong (Holm), none survives."


def power(assessed: Sequence[Assessment]) -> list[str]:
    """How large an effect had to be for so many seeds to find it."""
    sized = {one.title: one for one in assessed if one.detectable is not None}
    if not sized:
        return []
    seeds = sorted({len(one.effect.by_seed) for one in sized.values() if one.effect is not None})
    sizes = ", ".join(f"{title} {one.detectable:.2f} {_unit(one)}" for title, one in sized.items())
    count = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    found = [
        f"Claims stand on {count} seeds. With these, and the spread that was seen, {IN_POWER} such studies would show "
        f"an interval above 0 for an effect of: {sizes}."
    ]
    if small := [title for title, one in sized.items() if _is_small(one)]:
        found.append(f"The paper's own effect is smaller than that in {_and(small)}: more seeds are needed to see it.")
    return found


def _unit(one: Assessment) -> str:
    """``%`` of the score compared with, or points of the metric."""
    if one.unit == "%":
        return "%"
    return f"points of {METRICS[one.findings[0].comparison.table.metric].partition(' ')[0]}"


def _is_small(one: Assessment) -> bool:
    return one.paper is not None and one.detectable is not None and one.paper < one.detectable


def note(line: Assessment | Part | Finding) -> str:
    """Of a claim, a part or a comparison: its effect in the unit of the claim, or why it has none."""
    effect = line.in_unit if isinstance(line, Finding) else line.effect
    if effect is None:
        return str(line.answer)
    return f"{'void: ' if line.answer is Answer.VOID else ''}{effect_in_words(effect)}"


def detectable(line: Assessment | Part | Finding) -> float | None:
    """The smallest effect in the unit of the claim that would have been shown, where none is."""
    if line.answer is not Answer.UNDECIDED or (isinstance(line, Part) and line.same):
        return None
    if not isinstance(line, Finding):
        return line.detectable
    if line.comparison.same or not line.counts or line.in_unit is None or line.in_unit.estimate is None:
        return None
    return rule.detectable(line.in_unit.estimate)


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
