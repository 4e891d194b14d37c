"""The shared immutable records of the system: transcripts, conversations, model results.

Pipelines pass these records, the model API takes and returns them, and the command line prints them (`transcribe`,
`analyze`). Field names and shapes are fixed by the platform's contract. `repr` shows ids and numbers, never spoken
words: fields with words are declared with `Field(repr=False)`.
"""

from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Category = Literal[
    "physical_abuse",
    "domestic_abuse",
    "sexual_abuse",
    "psychological_abuse",
    "financial_abuse",
    "modern_slavery",
    "discriminatory_abuse",
    "organisational_abuse",
    "neglect",
    "self_neglect",
    "self_harm",
    "medication_error",
    "falls_injury",
    "restrictive_practice",
    "missing_person",
]
Severity = Literal["low", "medium", "high", "critical"]
RiskLevel = Literal["none", "low", "medium", "high", "critical"]
SentimentLabel = Literal["negative", "neutral", "positive"]

CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
RISK_LEVELS: Final[tuple[RiskLevel, ...]] = get_args(RiskLevel)
SENTIMENT_LABELS: Final[tuple[SentimentLabel, ...]] = get_args(SentimentLabel)

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0)]


class Record(BaseModel):
    """Base of all records: immutable, rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- transcripts -------------------------------------------------------------------------------------------


class Word(Record):
    """One recognised word. `speaker` is None if uncertain; `confidence` is that of the recogniser."""

    word: str = Field(repr=False)
    start_seconds: Seconds
    end_seconds: Seconds
    confidence: Probability
    speaker: str | None = None


NotUnderstoodReason = Literal["unclear", "too_quiet", "language_unsupported", "language_uncertain"]


class NotUnderstood(Record):
    """A part of a recording in which somebody speaks but the words are not known. A person must listen to it.

    `unclear`: no words, or no reliable ones. `too_quiet`: too quiet to understand. `language_unsupported`: in a
    language that the recogniser cannot write. `language_uncertain`: the language could not be identified; words in this
    part may be wrong.
    """

    start_seconds: Seconds
    end_seconds: Seconds
    reason: NotUnderstoodReason


class Transcription(Record):
    """The result of the recogniser: words in order of time, without speakers.

    `speech`: the time spans (start, end in seconds) with speech. `language`: the ISO 639-1 code of the language that is
    spoken longest, `und` if it could not be identified.
    """

    words: tuple[Word, ...] = Field(repr=False)
    speech: tuple[tuple[float, float], ...]
    language: str
    not_understood: tuple[NotUnderstood, ...] = ()


class SpeakerTurn(Record):
    """A time span in which one speaker speaks. Diarization returns these; they may overlap."""

    speaker: str
    start_seconds: Seconds
    end_seconds: Seconds


class Utterance(Record):
    """Consecutive words of one speaker, with the times of the speech. `confidence` is the mean over the words."""

    speaker: str | None
    start_seconds: Seconds
    end_seconds: Seconds
    text: str = Field(repr=False)
    confidence: Probability


class Transcript(Record):
    """Who said what, when, in one recording; also its language, and the parts that were not understood."""

    duration_seconds: Seconds
    language: str
    not_understood: tuple[NotUnderstood, ...] = ()
    speakers: tuple[str, ...]
    words: tuple[Word, ...] = Field(repr=False)
    utterances: tuple[Utterance, ...] = Field(repr=False)
    models: dict[str, str]


class StageTiming(Record):
    """The cost of a processing stage: seconds of audio processed and seconds taken. Their ratio is the RTF."""

    stage: str
    audio_seconds: Seconds
    wall_seconds: Seconds


# --- input of the text models --------------------------------------------------------------------------------


class Participant(Record):
    speaker: str
    role: str = "other"
    name: str | None = Field(default=None, repr=False)


class Turn(Record):
    speaker: str | None
    text: str = Field(repr=False)


class Conversation(Record):
    """The input of the text models: turns in order, and the participants as far as they are known."""

    id: str
    channel: str = "call"
    participants: tuple[Participant, ...] = ()
    turns: tuple[Turn, ...]


# --- results of the models -------------------------------------------------------------------------------------


class Evidence(Record):
    """Words that raised a score: characters `start:end` of the text of turn `turn`. `weight`: by how much.

    `turn` may be earlier than the assessed turn: context can be evidence too.
    """

    turn: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    text: str = Field(repr=False)
    weight: float


class Concern(Record):
    """A category whose calibrated probability reaches its shipped threshold. A person decides what to do.

    `model`: the model that raised it, as `name@version`, if it is not the safeguarding model
    (`models/text/deeper_reading`).
    """

    category: Category
    severity: Severity
    probability: Probability
    threshold: Probability
    evidence: tuple[Evidence, ...] = Field(default=(), repr=False)
    model: str | None = Field(default=None, exclude_if=lambda value: value is None)


class Unsure(Record):
    """'Look at this, I am not sure': the probability of any concern lies between `threshold` and that of concerns."""

    probability: Probability
    threshold: Probability


class Sentiment(Record):
    label: SentimentLabel
    probabilities: dict[SentimentLabel, Probability]


class TurnAssessment(Record):
    """The safeguarding model's result for one turn. `scores` holds all 15 categories and `any`, unrounded.

    `unsure` is present only if the turn has no concern and the model is not sure that there is none.
    """

    scores: dict[str, Probability]
    concerns: tuple[Concern, ...]
    unsure: Unsure | None = Field(default=None, exclude_if=lambda value: value is None)


class AnalysedTurn(TurnAssessment):
    sentiment: Sentiment

    @classmethod
    def of(cls, assessment: TurnAssessment, sentiment: Sentiment) -> "AnalysedTurn":
        """The assessment with the feeling of the same turn."""
        return cls(
            scores=assessment.scores, concerns=assessment.concerns, unsure=assessment.unsure, sentiment=sentiment
        )


class Risk(Record):
    """The risk level of a conversation. `score` is the probability that it contains a concern a lead should see."""

    level: RiskLevel
    score: Probability


class SummarySentence(Record):
    text: str = Field(repr=False)
    turns: tuple[int, ...] = Field(min_length=1)


class Summary(Record):
    """A summary. `text` is the sentences joined by spaces; each sentence names the turns that support it."""

    text: str = Field(repr=False)
    sentences: tuple[SummarySentence, ...]


class ActionItem(Record):
    """A commitment made in turn `turn`. `owner` is a speaker or None; `due` is the time as spoken, or None."""

    turn: int = Field(ge=0)
    text: str = Field(repr=False)
    owner: str | None
    due: str | None = Field(repr=False)


class LanguageCoverage(Record):
    """The language of a conversation, and the turns that the text models cannot read. They were trained on English.

    `language_supported` false: most of the conversation is in another language, so the results of the models are
    meaningless. `unread_turns`: the turns in another language, also where the rest is English. A person must read them.
    """

    language: str = "en"
    language_supported: bool = True
    unread_turns: tuple[int, ...] = ()


class Analysis(LanguageCoverage):
    """All results of the models for one conversation, and the versions of the models.

    The risk is at least `low` if any turn could not be read.
    """

    id: str
    turns: tuple[AnalysedTurn, ...]
    risk: Risk
    summary: Summary
    actions: tuple[ActionItem, ...]
    models: dict[str, str]
