"""Summaries cite their turns and contain no invented names or numbers."""

import re

import numpy as np

from models.contract.records import Concern, Conversation, TurnAssessment
from models.text.analysis import analyse
from models.text.summarisation import (
    WordImportance,
    choose_sentences,
    gravest_turn,
    plain_words,
    quotable_passages,
    unsupported_terms,
)
from tests.text_models import conversation, text_models
from training.dataset import read_dataset

TALK = conversation("Rosa fell at 6 and her hip is sore.", "I'll ring the GP at nine.")


def test_the_sentences_are_the_text_and_each_cites_a_turn_that_exists() -> None:
    for item in read_dataset()[::60]:
        summary = analyse(item.conversation, text_models()).summary
        assert " ".join(sentence.text for sentence in summary.sentences) == summary.text
        assert 1 <= len(summary.sentences) <= 3
        cited = [turn for sentence in summary.sentences for turn in sentence.turns]
        assert all(0 <= turn < len(item.conversation.turns) for turn in cited)


def test_no_name_or_number_stands_in_a_summary_that_its_turns_and_participants_lack() -> None:
    for item in read_dataset()[::60]:
        talk = item.conversation
        for sentence in analyse(talk, text_models()).summary.sentences:
            known = " ".join(talk.turns[turn].text for turn in sentence.turns).lower()
            known += " ".join(f" {person.name} {person.role} {person.speaker}" for person in talk.participants).lower()
            numbers = re.findall(r"\d+", sentence.text)
            assert all(number in known for number in numbers), sentence.turns


def test_an_invented_name_or_number_is_caught() -> None:
    assert unsupported_terms("Ioana (care worker): “Rosa fell at 6”", TALK, [0]) == set()
    assert unsupported_terms("Ioana (care worker): “Peter fell at 7”", TALK, [0]) == {"peter", "7"}
    assert unsupported_terms("Beverley (manager) will ring Rosa.", TALK, [1]) == {"rosa"}


def test_speakers_without_names_are_called_by_role_or_label() -> None:
    unknown = Conversation(id="u", turns=TALK.turns)
    summary = analyse(unknown, text_models()).summary
    assert summary.sentences[0].text.startswith("S1: “Rosa fell")


def test_what_was_promised_is_told_although_other_words_are_worth_more() -> None:
    importance = dict.fromkeys(plain_words("Rosa fell at 6 and her hip is sore, she cried all night"), 0.9)
    lines = ("Rosa fell at 6.", "Her hip is sore.", "I'll ring the GP at nine.", "She cried all night.", "Fell at 6.")
    summarised = " ".join(sentence.text for sentence in choose_sentences(conversation(*lines), importance))
    assert "Ioana (care worker) will ring the GP at nine." in summarised


def test_words_already_told_count_for_nothing() -> None:
    importance = dict.fromkeys(plain_words("Rosa fell at 6 hip sore"), 0.9)
    lines = ("Rosa fell at 6 today.", "The hip is sore.", "Rosa fell at 6 today.")
    assert [sentence.turns for sentence in choose_sentences(conversation(*lines), importance)] == [(0,), (1,)]


def test_a_turn_is_quoted_whole_and_a_long_one_by_whole_sentences() -> None:
    text = "She had her tea. Then she slept! But her arm was bruised all the way down."
    assert quotable_passages(f"  {text}  ", most_words=20) == [text]
    found = quotable_passages(text, most_words=9)
    assert found[:2] == ["She had her tea. …", "She had her tea. Then she slept! …"]
    assert found[-1] == "… But her arm was bruised all the way down."
    assert all(run.strip("… ") in text for run in found)
    assert quotable_passages("Fine.") == ["Fine."]


def test_a_sentence_longer_than_all_that_is_quoted_is_cut_and_says_so() -> None:
    assert quotable_passages("word " * 100, most_words=5) == ["word word word word word …"]


def test_the_gravest_turn_is_told_although_other_words_are_worth_more() -> None:
    importance = dict.fromkeys(plain_words("Rosa fell at 6 and her hip is sore, she cried all night"), 0.9)
    lines = ("Rosa fell at 6.", "Her hip is sore.", "He locks the door on purpose.", "She cried all night.")
    summarised = choose_sentences(conversation(*lines), importance, gravest=2)
    assert (2,) in [sentence.turns for sentence in summarised]


def test_the_gravest_turn_is_the_likeliest_of_those_that_voice_a_concern() -> None:
    def assessed(probability: float, *, voiced: bool) -> TurnAssessment:
        concern = Concern(category="neglect", severity="high", probability=probability, threshold=0.1)
        return TurnAssessment(scores={"any": probability}, concerns=(concern,) if voiced else ())

    rows = [assessed(0.3, voiced=True), assessed(0.6, voiced=True), assessed(0.9, voiced=False)]
    assert gravest_turn(rows) == 1
    assert gravest_turn(rows[2:]) is None


def test_what_was_learnt_of_words_returns_from_its_artefact() -> None:
    importance = WordImportance({"fell": 9, "tea": 4, "once": 1}, {"fell": 5}, np.arange(13, dtype=np.float32))
    again = WordImportance.from_arrays(importance.as_arrays())
    assert (again.seen, again.summarised) == ({"fell": 9, "tea": 4}, {"fell": 5, "tea": 0})
    assert again.layer.tolist() == list(range(13))
