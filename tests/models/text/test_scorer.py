"""Messages are scored in one pass, with the same results as from the separate models, but without evidence."""

from models.text.scorer import SharedScorer
from tests.text_models import conversation, text_models

TALKS = (
    conversation("How was the night?", "He hit Edith with the brush, I saw it.", "Did he?", name="a"),
    conversation("Morning.", "Lovely day, I am so happy to see you all.", name="b"),
)


def test_each_turn_is_judged_as_by_either_reader_alone_but_for_the_evidence() -> None:
    models = text_models()
    judged = SharedScorer(models.encoder, models.safeguarding, models.sentiment).score_many(TALKS)
    for talk, rows in zip(TALKS, judged, strict=True):
        alone = zip(models.safeguarding.score([talk])[0], models.sentiment.predict(talk), strict=True)
        for row, (assessment, sentiment) in zip(rows, alone, strict=True):
            assert row.sentiment.label == sentiment.label
            assert [concern.category for concern in row.concerns] == [one.category for one in assessment.concerns]
            assert max(abs(row.scores[name] - score) for name, score in assessment.scores.items()) < 0.01
            assert all(concern.evidence == () for concern in row.concerns)
    assert judged[0][1].concerns
    assert not any(row.concerns for row in judged[1])


def test_what_was_judged_can_be_explained_later() -> None:
    models = text_models()
    [rows] = models.safeguarding.score(TALKS[:1])
    [explained] = models.safeguarding.explain(TALKS[:1], [rows])
    assert explained == models.safeguarding.score_with_evidence(TALKS[0])
    assert explained[1].concerns[0].evidence
