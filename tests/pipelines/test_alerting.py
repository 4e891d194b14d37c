"""Which analyses raise an alert, and what the alert contains."""

from uuid import UUID, uuid4

from models.contract.records import (
    CATEGORIES,
    AnalysedTurn,
    Analysis,
    Category,
    Concern,
    Evidence,
    Risk,
    Sentiment,
    Severity,
    Summary,
    Unsure,
)
from pipelines.alerting import alert_for, warrants_alert

NEUTRAL = Sentiment(label="neutral", probabilities={"negative": 0.1, "neutral": 0.8, "positive": 0.1})


def concern(category: Category, severity: Severity, probability: float) -> Concern:
    words = Evidence(turn=0, start=3, end=10, text="grabbed", weight=0.4)
    return Concern(category=category, severity=severity, probability=probability, threshold=0.3, evidence=(words,))


def analysis(*turns: tuple[Concern, ...]) -> Analysis:
    scores = dict.fromkeys((*CATEGORIES, "any"), 0.01)
    return Analysis(
        id="call",
        turns=tuple(AnalysedTurn(scores=scores, concerns=concerns, sentiment=NEUTRAL) for concerns in turns),
        risk=Risk(level="none", score=0.1),
        summary=Summary(text="", sentences=()),
        actions=(),
        models={"safeguarding": "7"},
    )


def ids() -> dict[str, UUID]:
    return {"recording_id": uuid4(), "transcription_id": uuid4(), "analysis_id": uuid4()}


def test_a_call_without_concerns_raises_nothing() -> None:
    assert alert_for(analysis((), ()), **ids()) is None


def test_an_empty_call_raises_nothing() -> None:
    assert alert_for(analysis(), **ids()) is None


def test_the_alert_takes_the_highest_severity_and_the_likeliest_concerns_probability() -> None:
    alert = alert_for(
        analysis((concern("neglect", "low", 0.9),), (), (concern("physical_abuse", "critical", 0.5),)), **ids()
    )
    assert alert is not None
    assert (alert.severity, alert.probability, alert.categories) == ("critical", 0.9, ("neglect", "physical_abuse"))


def test_each_turn_and_category_is_a_piece_of_evidence_in_the_order_of_the_call() -> None:
    found = analysis(
        (concern("neglect", "low", 0.4), concern("falls_injury", "medium", 0.6)), (concern("neglect", "high", 0.5),)
    )
    alert = alert_for(found, **ids())
    assert alert is not None
    assert [(piece.utterance, piece.category) for piece in alert.evidence] == [
        (0, "neglect"), (0, "falls_injury"), (1, "neglect"),
    ]  # fmt: skip


def test_evidence_names_model_version_threshold_and_characters_but_no_words() -> None:
    alert = alert_for(analysis((concern("neglect", "low", 0.4),)), **ids())
    assert alert is not None
    piece = alert.evidence[0]
    assert (piece.model, piece.model_version, piece.threshold) == ("safeguarding", "7", 0.3)
    assert [(span.utterance, span.start, span.end, span.weight) for span in piece.spans] == [(0, 3, 10, 0.4)]
    assert "grabbed" not in alert.model_dump_json()


def test_what_another_reader_raised_is_put_down_to_it() -> None:
    told = concern("neglect", "low", 0.06).model_copy(update={"model": "local@chat-completions"})
    alert = alert_for(analysis((told,), (concern("neglect", "low", 0.4),)), **ids())
    assert alert is not None
    assert [(piece.model, piece.model_version) for piece in alert.evidence] == [
        ("deeper_reader", "local@chat-completions"), ("safeguarding", "7"),
    ]  # fmt: skip


def test_an_unsure_turn_by_itself_raises_no_alert() -> None:
    read = analysis((), ())
    unsure = read.turns[0].model_copy(update={"unsure": Unsure(probability=0.2, threshold=0.05)})
    assert alert_for(read.model_copy(update={"turns": (unsure, read.turns[1])}), **ids()) is None


def call(turns: int, *voiced: Concern) -> list[tuple[Concern, ...]]:
    """A call of `turns` turns; each of the first ones voices one of the concerns."""
    return [*((one,) for one in voiced), *[()] * (turns - len(voiced))]


def test_one_weak_turn_is_an_alert_in_a_short_call_and_none_in_a_long_one() -> None:
    weak = concern("neglect", "medium", 0.31)
    assert warrants_alert(call(40, weak))
    assert not warrants_alert(call(41, weak))
    assert alert_for(analysis(*call(41, weak)), **ids()) is None


def test_in_a_long_call_two_weak_turns_a_likely_one_or_a_critical_one_are_an_alert() -> None:
    weak = concern("neglect", "medium", 0.31)
    assert warrants_alert(call(200, weak, concern("financial_abuse", "low", 0.31)))
    assert warrants_alert(call(200, concern("neglect", "medium", 0.5)))
    assert warrants_alert(call(200, concern("neglect", "critical", 0.31)))
    assert not warrants_alert(call(200))
