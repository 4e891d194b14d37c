"""The nouns that walk through the whole house, as frozen records.

A record is the value in a pipeline, the body of the model API and the shape that the command line prints
(`transcribe`, `analyze`). Shapes and words follow the platform's contract to the letter. `repr` shows ids and
numbers, never words that someone spoke: such fields are declared with `Field(repr=False)`.
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
    """Base of every noun: immutable, closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- what was said -----------------------------------------------------------------------------------------


class Word(Record):
    """One recognised word; `speaker` is None where unsure, `confidence` is the recogniser's."""

    word: str = Field(repr=False)
    start_seconds: Seconds
    end_seconds: Seconds
    confidence: Probability
    speaker: str | None = None


NotUnderstoodReason = Literal["unclear", "too_quiet", "language_unsupported", "language_uncertain"]


class NotUnderstood(Record):
    """A stretch of a recording in which somebody speaks and the words are not known: a person must listen there.

    `unclear`: no words, or none that are believed. `find_quiet_speech`: too quiet to understand. `language_unsupported`: in a
    language that the recogniser cannot write. `language_uncertain`: in a language that could not be told; words that
    stand there may be wrong.
    """

    start_seconds: Seconds
    end_seconds: Seconds
    reason: NotUnderstoodReason


class Transcription(Record):
    """The recogniser's answer: words in order of time, no speakers yet.

    `speech` are the stretches (start, end in seconds) in which a voice was found. `language` is the ISO 639-1 code of
    the language that was heard most, `und` where it could not be told.
    """

    words: tuple[Word, ...] = Field(repr=False)
    speech: tuple[tuple[float, float], ...]
    language: str
    not_understood: tuple[NotUnderstood, ...] = ()


class SpeakerTurn(Record):
    """A stretch in which one speaker is heard (diarization's answer; turns may overlap)."""

    speaker: str
    start_seconds: Seconds
    end_seconds: Seconds


class Utterance(Record):
    """A run of words by one speaker, tight to speech; `confidence` is the mean of its words'."""

    speaker: str | None
    start_seconds: Seconds
    end_seconds: Seconds
    text: str = Field(repr=False)
    confidence: Probability


class Transcript(Record):
    """Who said what, when, in one recording; `language` as heard, and where it was not understood."""

    duration_seconds: Seconds
    language: str
    not_understood: tuple[NotUnderstood, ...] = ()
    speakers: tuple[str, ...]
    words: tuple[Word, ...] = Field(repr=False)
    utterances: tuple[Utterance, ...] = Field(repr=False)
    models: dict[str, str]


class StageTiming(Record):
    """What a stage of the walk cost: seconds of audio it worked on, seconds it took; their ratio is the RTF."""

    stage: str
    audio_seconds: Seconds
    wall_seconds: Seconds


# --- what is read --------------------------------------------------------------------------------------------


class Participant(Record):
    speaker: str
    role: str = "other"
    name: str | None = Field(default=None, repr=False)


class Turn(Record):
    speaker: str | None
    text: str = Field(repr=False)


class Conversation(Record):
    """What the text models read: turns in order, with who takes part as far as it is known."""

    id: str
    channel: str = "call"
    participants: tuple[Participant, ...] = ()
    turns: tuple[Turn, ...]


# --- what the models answer ------------------------------------------------------------------------------------


class Evidence(Record):
    """Words that moved a score: characters `start:end` of turn `turn`'s text; `weight` is how far they moved it.

    `turn` may be an earlier turn than the one assessed: context counts as evidence too.
    """

    turn: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    text: str = Field(repr=False)
    weight: float


class Concern(Record):
    """A category whose calibrated probability reaches its shipped threshold. A person decides what it is."""

    category: Category
    severity: Severity
    probability: Probability
    threshold: Probability
    evidence: tuple[Evidence, ...] = Field(default=(), repr=False)


class Sentiment(Record):
    label: SentimentLabel
    probabilities: dict[SentimentLabel, Probability]


class TurnAssessment(Record):
    """The safeguarding model's answer for one turn: `scores` has all 15 categories and `any`, unrounded."""

    scores: dict[str, Probability]
    concerns: tuple[Concern, ...]


class AnalysedTurn(TurnAssessment):
    sentiment: Sentiment


class Risk(Record):
    """The conversation's level; `score` is the probability that it holds any concern a lead should see."""

    level: RiskLevel
    score: Probability


class SummarySentence(Record):
    text: str = Field(repr=False)
    turns: tuple[int, ...] = Field(min_length=1)


class Summary(Record):
    """The sentences joined by spaces are the text; each names the turns it rests on."""

    text: str = Field(repr=False)
    sentences: tuple[SummarySentence, ...]


class ActionItem(Record):
    """A commitment voiced in turn `turn`; `owner` is a speaker or None, `due` as said or None."""

    turn: int = Field(ge=0)
    text: str = Field(repr=False)
    owner: str | None
    due: str | None = Field(repr=False)


class LanguageCoverage(Record):
    """In which language a conversation is, and what of it the readers cannot read: they were trained on English.

    `language_supported` false: most of it is in another language, and what the readers say of it counts for nothing.
    `unread_turns` are in one, even where the rest is English. A person must read them.
    """

    language: str = "en"
    language_supported: bool = True
    unread_turns: tuple[int, ...] = ()


class Analysis(LanguageCoverage):
    """Everything the models say of one conversation, and which versions said it.

    The risk is at least `low` where something could not be read.
    """

    id: str
    turns: tuple[AnalysedTurn, ...]
    risk: Risk
    summary: Summary
    actions: tuple[ActionItem, ...]
    models: dict[str, str]
