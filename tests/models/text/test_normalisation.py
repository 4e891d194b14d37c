"""Normalisation: letters that hide words from the models are replaced; real text in any alphabet is unchanged."""

import json
from pathlib import Path

import pytest

from models.contract.records import Conversation
from models.text.analysis import analyse_many
from models.text.normalisation import normalised
from tests.text_models import text_models

CASES = Path(__file__).parents[2] / "cases"
DISCLOSURE = "He hit her with the stick."


@pytest.mark.parametrize(
    "written",
    [
        "Ｈｅ ｈｉｔ ｈｅｒ ｗｉｔｈ ｔｈｅ ｓｔｉｃｋ.",
        "\u041de h\u0456t h\u0435r w\u0456th th\u0435 st\u0456\u0441k.",
        "He hit he\u03b3r with the stick.".replace("\u03b3", ""),
        "\U0001d407\U0001d41e \U0001d421\U0001d422\U0001d42d her with the stick.",
        "\u24bd\u24d4 \u24d7\u24d8\u24e3 her with the stick.",
        "He \u029c\u026a\u1d1b \u029c\u1d07r with the stick.",
        "He h\u200bi\u200ct h\u2060e\u00adr with\u2028the\u3000stick.",
        "H\u0336e\u0336 h\u0336i\u0336t\u0336 her with the stick.",
        "\u202eHe hit her\u202c with the\x00 stick.",
        "He hit her \u051d\u0456th the stick.",
    ],
)
def test_the_words_are_read_whatever_letters_hide_them(written: str) -> None:
    assert normalised(written) == DISCLOSURE


@pytest.mark.parametrize(
    "real",
    [
        "Mae Siân yn Nhŷ Gwyn; mae'r wên ar ei hŵyneb.",
        "naïve café façade Łódź Đặng Þór",
        "Привет, как дела? Он упал с лестницы.",
        "Он сказал: help her",
        "Он сор",
        "Καλημέρα, τι κάνεις;",
        "सुबह नर्स को बुलाओ क्‍ष",
        "می‌خواهم بروم",
        "彼は毎晩私を殴ります",
        "😀 👩‍⚕️ 👨‍👩‍👧 ❤️",
        "½ a tablet… at 25 °C — 2×500 mg, £3 ™",
        "He hit her with the stick.",
        "",
    ],
)
def test_real_text_is_left_as_it_is(real: str) -> None:
    assert normalised(real) == real


def test_a_concern_is_the_same_in_every_spelling_and_its_evidence_lies_in_what_was_written() -> None:
    lines = (CASES / "invisible-characters.jsonl").read_text(encoding="utf-8").splitlines()
    written = [Conversation.model_validate({"channel": "call", **json.loads(line)}) for line in lines]
    analysed = analyse_many(written, text_models())
    for conversation, analysis in zip(written, analysed, strict=True):
        (concern,) = analysis.turns[1].concerns
        assert (concern.category, concern.severity) == ("physical_abuse", "high"), conversation.id
        assert concern.probability > 0.85, conversation.id
        assert analysis.risk.level == "high", conversation.id
        for piece in concern.evidence:
            assert conversation.turns[piece.turn].text[piece.start : piece.end] == piece.text, conversation.id
