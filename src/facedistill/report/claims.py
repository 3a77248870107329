"""The claims of the paper and the controls, answered by the rule in ``rule.py``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from facedistill.config.groups import READINGS
from facedistill.report import rule
from facedistill.report.comparisons import CLAIMS, Claim, Comparison, Statement
from facedistill.report.neighbours import Experiment
from facedistill.report.rule import LEAST_SEEDS, WRONG, Answer, Judgement, Look
from facedistill.report.statistics import Effect, average
from facedistill.report.study import FilledTable, Study
from facedistill.report.validity import why_void


@dataclass(frozen=True)
class Finding:
    """A comparison and what the runs say of it, in points of its metric.

    Attributes:
        effect: in favour of the claim; None: the two cells share no seed.
        paper: the effect that the paper prints.
        in_unit, paper_in_unit: the same in the unit of the claim.
    """

    comparison: Comparison
    effect: Effect | None
    answer: Answer
    paper: float | None
    in_unit: Effect | None
    paper_in_unit: float | None
    why_void: str = ""

    @property
    def counts(self) -> bool:
        """Whether the claim is answered by it: it is not void, and has enough seeds."""
        return self.answer is not Answer.VOID and self.effect is not None and len(self.effect.by_seed) >= LEAST_SEEDS


@dataclass(frozen=True)
class Part:
    """A statement of a claim: the average of its comparisons that count.

    Attributes:
        effect, paper, detectable: in the unit of the claim; ``paper``: of the same comparisons, or where none counts of
            all.
        detectable: the effect that so many seeds would have shown in four of five studies.
    """

    text: str
    findings: Sequence[Finding]
    effect: Effect | None
    answer: Answer
    paper: float | None
    detectable: float | None
    same: bool = False

    @property
    def tally(self) -> str:
        """How many comparisons answer it, of how many."""
        counted = sum(finding.counts for finding in self.findings)
        void = sum(finding.answer is Answer.VOID for finding in self.findings)
        return f"{counted} of {len(self.findings)} comparisons" + (f", {void} void" if void else "")

    @property
    def why_void(self) -> str:
        """The reasons of its void comparisons, each once."""
        return "; ".join(dict.fromkeys(finding.why_void for finding in self.findings if finding.why_void))


@dataclass(frozen=True)
class Assessment:
    """A claim and its answer.

    Attributes:
        reading: of the schedule.
        unit: of the effects of the claim and its parts: ``points``, or ``%`` of the score compared with.
        effect: the average of its parts that have a direction.
        scope: what of it is reproduced: on average, in every part, or everywhere; what contradicts it; else what keeps
            it from an answer.
        p: two-sided, of the answer that is nearest; None: nothing was looked at.
        survives: whether the answer remains if not one of all answers may be wrong (Holm).
    """

    name: str
    claim: str
    reading: str
    unit: str
    parts: Sequence[Part]
    effect: Effect | None
    answer: Answer
    scope: str
    paper: float | None
    p: float | None
    detectable: float | None
    survives: bool = False

    @property
    def findings(self) -> list[Finding]:
        return [finding for part in self.parts for finding in part.findings]

    @property
    def title(self) -> str:
        """Its name and, where it isn't the usual one, the reading."""
        return self.name if self.reading == READINGS[0] else f"{self.name} ({self.reading})"

    @property
    def is_answered(self) -> bool:
        return self.answer in (Answer.REPRODUCED, Answer.CONTRADICTED)

    @property
    def tally(self) -> str:
        """How many comparisons have which answer, in words."""
        found = [finding.answer for finding in self.findings]
        return ", ".join(f"{found.count(answer)} {answer}" for answer in Answer if answer in found)


def assess(study: Study) -> list[Assessment]:
    """The answer to every claim and control, under each reading of the schedule that there are runs of."""
    found: list[Assessment] = []
    for reading in READINGS:
        tables = [filled for filled in study.tables if filled.table.reading == reading]
        assessed = [_assess(claim, tables, reading) for claim in CLAIMS] if tables else []
        if study.neighbours and not any(filled.records for filled in tables):
            continue
        found += [one for one in assessed if not found or one.answer is not Answer.NOT_RUN]
    for filled in study.neighbours:
        assert isinstance(filled.table, Experiment)
        found += [_assess(claim, [filled], READINGS[0]) for claim in filled.table.claims]
    tested = [one for one in found if one.p is not None]
    kept = rule.survives([one.p for one in tested if one.p is not None])
    holm = {(one.name, one.reading) for one, keeps in zip(tested, kept, strict=True) if keeps and one.is_answered}
    return [replace(one, survives=(one.name, one.reading) in holm) for one in found]


def expected_wrong(assessed: Sequence[Assessment]) -> float:
    """How many wrong answers one has to expect at most, were there no effect behind any claim."""
    return WRONG * sum(one.p is not None for one in assessed)


def _assess(claim: Claim, tables: Sequence[FilledTable], reading: str) -> Assessment:
    drafts = [_draft(statement, tables, claim.across_tables) for statement in claim.statements]
    directed = [part for part in drafts if not part.same]
    effects = [part.effect for part in directed if part.effect is not None]
    effect = average([one for one in effects if _is_enough(one)] or effects)
    judgement = _judge(effect, drafts)
    parts = drafts if judgement is None else [_decided(part, judgement, len(drafts) == 1) for part in drafts]
    answer, scope = _answer(judgement, parts, claim.across_tables)
    beside = [part for part in directed if _is_enough(part.effect)] or directed
    papers = [part.paper for part in beside if part.paper is not None]
    return Assessment(
        name=claim.name,
        claim=claim.text,
        reading=reading,
        unit="%" if claim.across_tables else "points",
        parts=parts,
        effect=effect,
        answer=answer,
        scope=scope,
        paper=mean(papers) if len(papers) == len(beside) else None,
        p=None if judgement is None else _p(judgement),
        detectable=_detectable(effect),
    )


def _p(judgement: Judgement) -> float:
    """Of the answer, or where there is none of the nearest."""
    p_values = (judgement.p_reproduced, judgement.p_contradicted)
    return float(judgement.p_contradicted if judgement.contradicted else min(p_values))


def _draft(statement: Statement, tables: Sequence[FilledTable], in_percent: bool) -> Part:
    """A part that is undecided so far, void, or not run, and so are its comparisons."""
    findings, papers, effects = [], [], []
    for filled in tables:
        for comparison in statement.comparisons(filled.table):
            effect = filled.difference(comparison.better, comparison.than)
            void = why_void(tables, filled, comparison) if statement.about_targets and effect is not None else ""
            answer = Answer.VOID if void else Answer.UNDECIDED if effect is not None else Answer.NOT_RUN
            in_unit, printed = effect, comparison.paper
            if in_percent:
                printed = comparison.paper_share
                than = mean(filled.entry(comparison.than, filled.table.metric).ours) if effect else 0.0
                in_unit = effect.times(100 / than) if effect and than else effect
            finding = Finding(comparison, effect, answer, comparison.paper, in_unit, printed, void)
            findings.append(finding)
            papers.append((finding.counts, printed))
            if in_unit is not None and not void:
                effects.append((finding.counts, in_unit))
    counted = [effect for counts, effect in effects if counts]
    effect = average(counted or [effect for _, effect in effects])
    found = {finding.answer for finding in findings}
    answer = next((one for one in (Answer.UNDECIDED, Answer.VOID) if one in found), Answer.NOT_RUN)
    beside = [paper for counts, paper in papers if counts] or [paper for _, paper in papers]
    known = [paper for paper in beside if paper is not None]
    paper = mean(known) if known else None
    return Part(statement.text, findings, effect, answer, paper, _detectable(effect), statement.same)


def _judge(effect: Effect | None, parts: Sequence[Part]) -> Judgement | None:
    """By the rule; None: no runs, or too few seeds."""
    if not _is_enough(effect):
        return None
    looked = []
    for part in parts:
        if _is_enough(part.effect):
            comparisons = [_look(finding.effect, part.same) for finding in part.findings if finding.counts]
            looked.append(rule.Part(_look(part.effect, part.same), comparisons))
    return rule.judge(_look(effect).estimate, looked)


def _look(effect: Effect | None, same: bool = False) -> Look:
    assert effect is not None
    assert effect.estimate is not None
    return Look(effect.estimate, same)


def _is_enough(effect: Effect | None) -> bool:
    return effect is not None and len(effect.by_seed) >= LEAST_SEEDS


def _detectable(effect: Effect | None) -> float | None:
    return rule.detectable(_look(effect).estimate) if _is_enough(effect) else None


def _decided(part: Part, judgement: Judgement, is_claim: bool) -> Part:
    """With the answers of its comparisons and its own; ``is_claim``: the claim has no other part."""

    def decide(effect: Effect | None, level: float) -> Answer:
        look = _look(effect, part.same)
        if look.p_contradicted <= level:
            return Answer.CONTRADICTED
        return Answer.REPRODUCED if look.is_shown else Answer.UNDECIDED

    level = float(judgement.look_level)
    findings = [replace(one, answer=decide(one.effect, level)) if one.counts else one for one in part.findings]
    if not _is_enough(part.effect):
        return replace(part, findings=findings)
    answer = decide(part.effect, float(judgement.claim_level) if is_claim else level)
    return replace(part, findings=findings, answer=answer)


def _answer(judgement: Judgement | None, parts: Sequence[Part], across_tables: bool) -> tuple[Answer, str]:
    """The answer to a claim and its scope."""
    if judgement is None:
        found = {part.answer for part in parts}
        answer = next((one for one in (Answer.UNDECIDED, Answer.VOID) if one in found), Answer.NOT_RUN)
        return answer, next(part.why_void for part in parts if part.why_void) if answer is Answer.VOID else ""
    if judgement.contradicted:
        found_against = [part.text for part in parts if part.answer is Answer.CONTRADICTED and len(parts) > 1]
        for finding in (finding for part in parts for finding in part.findings if len(part.findings) > 1):
            if finding.answer is Answer.CONTRADICTED:
                found_against.append(f"{finding.comparison.label} ({finding.comparison.table.stands_for})")
        return Answer.CONTRADICTED, f"by {'; '.join(found_against)}" if found_against else "on average"
    missing = [part for part in parts if not part.same and not _is_enough(part.effect)]
    if missing and not across_tables:
        return Answer.UNDECIDED, _listed(missing)
    if not judgement.reproduced:
        return Answer.UNDECIDED, ""
    here = [part for part in parts if part not in missing]
    findings = [finding for part in here for finding in part.findings]
    counted = sum(finding.counts for finding in findings)
    others = f"; {counted} of {len(findings)} comparisons" if counted < len(findings) else ""
    others += f"; {_listed(missing)}" if missing else ""
    if all(finding.answer is Answer.REPRODUCED for finding in findings):
        return Answer.REPRODUCED, f"everywhere{others}"
    if alone := [part for part in here if part.answer is not Answer.REPRODUCED]:
        return Answer.REPRODUCED, f"on average; alone, {_listed(alone)}{others}"
    return Answer.REPRODUCED, f"{'in every part' if len(parts) > 1 else 'on average'}{others}"


def _listed(parts: Sequence[Part]) -> str:
    return "; ".join(f"{part.text}: {part.answer}" for part in parts)
