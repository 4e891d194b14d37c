"""Summaries cite their turns and invent nothing."""

import re

import numpy as np

from models.records import Conversation
from models.summarisation import WordWorth, choose_sentences, passages, shortened, spelt, unsupported
from models.text import analyse
from tests.readers import conversation, text_models
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
    assert unsupported("Ioana (care worker): “Rosa fell at 6”", TALK, [0]) == set()
    assert unsupported("Ioana (care worker): “Peter fell at 7”", TALK, [0]) == {"peter", "7"}
    assert unsupported("Beverley (manager) will ring Rosa.", TALK, [1]) == {"rosa"}


def test_speakers_without_names_are_called_by_role_or_label() -> None:
    unknown = Conversation(id="u", turns=TALK.turns)
    summary = analyse(unknown, text_models()).summary
    assert summary.sentences[0].text.startswith("S1: “Rosa fell")


def test_what_was_promised_is_told_although_other_words_are_worth_more() -> None:
    worth = dict.fromkeys(spelt("Rosa fell at 6 and her hip is sore, she cried all night"), 0.9)
    lines = ("Rosa fell at 6.", "Her hip is sore.", "I'll ring the GP at nine.", "She cried all night.", "Fell at 6.")
    told = " ".join(sentence.text for sentence in choose_sentences(conversation(*lines), worth))
    assert "Ioana (care worker) will ring the GP at nine." in told


def test_words_already_told_count_for_nothing() -> None:
    worth = dict.fromkeys(spelt("Rosa fell at 6 hip sore"), 0.9)
    lines = ("Rosa fell at 6 today.", "The hip is sore.", "Rosa fell at 6 today.")
    assert [sentence.turns for sentence in choose_sentences(conversation(*lines), worth)] == [(0,), (1,)]


def test_passages_are_runs_of_clauses_that_say_where_they_are_cut() -> None:
    text = "she had her tea and then she slept but her arm was bruised all the way down"
    found = passages(text, most_words=9)
    assert found[0] == "she had her tea …"
    assert "… and then she slept …" in found
    assert all(run.strip("… ") in text for run in found)
    assert passages("Fine.") == ["Fine."]


def test_what_was_learnt_of_words_returns_from_its_artefact() -> None:
    worth = WordWorth({"fell": 9, "tea": 4, "once": 1}, {"fell": 5}, np.arange(13, dtype=np.float32))
    again = WordWorth.from_arrays(worth.as_arrays())
    assert (again.seen, again.told) == ({"fell": 9, "tea": 4}, {"fell": 5, "tea": 0})
    assert again.layer.tolist() == list(range(13))


def test_long_turns_are_cut_and_say_so() -> None:
    assert shortened("word " * 100, most_words=5) == "word word word word word …"
    assert shortened("One two three. Four five six", most_words=4) == "One two three."
    assert shortened("  short   enough ") == "short enough"
