"""Summaries cite their turns and invent nothing."""

import re

from models.records import Conversation
from models.summarisation import shortened, unsupported
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


def test_long_turns_are_cut_and_say_so() -> None:
    assert shortened("word " * 100, most_words=5) == "word word word word word …"
    assert shortened("One two three. Four five six", most_words=4) == "One two three."
    assert shortened("  short   enough ") == "short enough"
