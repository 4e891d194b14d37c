"""Language detection: other languages are detected; no kind of English is taken for another language."""

import json
from pathlib import Path

import pytest

from models.contract.records import Conversation, Turn
from models.text.analysis import analyse
from models.text.language_detection import detect_coverage, foreign_language
from tests.text_models import text_models

DATA = Path(__file__).parents[3] / "training" / "data"


def talk(*texts: str) -> Conversation:
    return Conversation(id="talk", turns=tuple(Turn(speaker="S1", text=text) for text in texts))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("cy", "Bore da, mae'r preswylydd newydd wedi syrthio ger y grisiau y bore yma."),
        ("cy", "mae o'n fy nharo i bob nos"),
        ("pl", "On mnie bije każdej nocy, boję się"),
        ("ro", "Noua rezidentă a căzut lângă scări în această dimineață, vă rog să chemați asistenta."),
        ("pt", "Ele bateu-me ontem à noite, tenho medo"),
        ("fr", "il m'a frappé hier soir avec sa canne"),
        ("ur", "او مجھے ہر رات مارتا ہے"),
        ("pa", "ਉਹ ਮੈਨੂੰ ਹਰ ਰਾਤ ਮਾਰਦਾ ਹੈ"),
        ("bn", "সে আমাকে প্রতি রাতে মারে"),
        ("gu", "તે મને દરરોજ રાત્રે મારે છે"),
        ("ar", "إنه يضربني كل ليلة"),
        ("ru", "Он бьёт меня каждую ночь"),
        ("ja", "彼は毎晩私を殴ります"),
        ("und", "അവൻ എന്നെ അടിക്കുന്നു"),
    ],
)
def test_another_language_is_told(language: str, text: str) -> None:
    assert foreign_language(text) == language
    found = detect_coverage(talk(text))
    assert (found.language, found.language_supported, found.unread_turns) == (language, False, (0,))


@pytest.mark.parametrize(
    "text",
    [
        "She dinnae wanna gan doon the toon the neet",
        "thats a roll n sausage u owe me",
        "hes hit me agen n i carnt breeve",
        "Ta, duck.",
        "Nurse! Nurse! Nurse!",
        "paracetamol 500 mg PRN QDS",
        "𝐇𝐞 𝐡𝐢𝐭 𝐡𝐞𝐫 𝐰𝐢𝐭𝐡 𝐭𝐡𝐞 𝐬𝐭𝐢𝐜𝐤",
        "😀😀 👍",
        "",
    ],
)
def test_english_of_any_kind_is_english(text: str) -> None:
    assert detect_coverage(talk(text)).language_supported


def test_short_turns_are_told_from_one_anothers_words() -> None:
    found = detect_coverage(talk("Dzień dobry", "Bardzo mnie boli", "Co się stało?", "On mnie uderzył"))
    assert (found.language, found.language_supported) == ("pl", False)


def test_one_foreign_turn_of_an_english_talk_is_named() -> None:
    asked = "I did not get that, shall I ask Ewa to come over and help us?"
    found = detect_coverage(talk("Morning, how was the night?", "On mnie bije każdej nocy, boję się", "Sorry?", asked))
    assert (found.language, found.language_supported, found.unread_turns) == ("en", True, (1,))


def test_no_conversation_of_the_care_corpora_is_taken_for_another_language() -> None:
    conversations = 0
    strays = 0
    for path in sorted(DATA.rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            found = detect_coverage(talk(*(turn["text"] for turn in json.loads(line)["turns"])))
            assert found.language_supported, path.name
            conversations += 1
            strays += bool(found.unread_turns)
    assert conversations > 1_000
    assert strays <= conversations / 300  # e.g. 'Salaam, Nani, kya haal hai?', which is correctly detected


def test_what_the_readers_cannot_read_is_never_of_no_risk() -> None:
    found = analyse(talk("Dzień dobry, jak minęła noc?", "Dziękuję, wszystko w porządku dziś rano"), text_models())
    assert (found.language, found.language_supported, found.unread_turns) == ("pl", False, (0, 1))
    assert found.risk.level != "none"
