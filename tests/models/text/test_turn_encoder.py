"""The turn encoder: every piece is scored once; the weight difference restores the fine-tuned weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.artefacts.files import Provenance, load_manifest, write_artefact
from models.artefacts.weights import mpnet
from models.contract.errors import WriteCareError
from models.text.turn_encoder import VECTOR_SIZE, TurnEncoder, apply_difference, split_turn, weight_difference, windows
from tests.text_models import conversation, text_models, weights_directory


def test_every_piece_is_scored_once_and_no_window_is_too_long() -> None:
    pieces = [[7] * size for size in (10, 121, 3, 121, 121, 121, 50, 121, 121, 2, 60)]
    cut = windows(pieces)
    assert [piece for window in cut for piece, _, _ in window.spans] == list(range(len(pieces)))
    assert max(len(window.ids) for window in cut) <= 512
    assert len(cut) > 1
    for window in cut:
        for piece, start, end in window.spans:
            assert list(window.ids[start:end]) == pieces[piece]


def test_a_later_window_begins_with_turns_before_it() -> None:
    later = windows([[7] * 100] * 8)[1]
    assert later.spans[0][1] > 1


def test_an_empty_conversation_has_no_vectors_and_an_empty_turn_has_one() -> None:
    none, blank = text_models().encoder.encode([conversation(), conversation("", "Hello")])
    assert none.vectors.shape == (0, VECTOR_SIZE)
    assert blank.turn_of.tolist() == [0, 1]
    assert np.isfinite(blank.vectors).all()


def test_a_long_turn_is_read_in_pieces_of_the_same_turn() -> None:
    [found] = text_models().encoder.encode([conversation("word " * 100, "short")])
    assert found.turn_of.tolist() == [0, 0, 0, 1]


def test_a_long_turn_is_cut_at_its_joints_and_loses_no_word() -> None:
    text = "We had a cup of tea and talked about the weather. " * 9 + "x " * 60 + "and then he hit her"
    parts = split_turn(text)
    assert " ".join(parts).split() == text.split()
    assert max(len(part.split()) for part in parts) <= 45
    assert parts[0].endswith(("tea", "weather."))
    assert split_turn("He hit her.") == ["He hit her."]


def test_what_was_learnt_is_restored_from_its_difference() -> None:
    base = torch.nn.Linear(128, 4)
    learnt = torch.nn.Linear(128, 4)
    changed = (learnt.weight - base.weight).detach().clone()
    arrays = weight_difference(learnt, base)
    assert arrays["weight"].dtype == np.uint8
    assert arrays["weight"].shape == (4, 64)
    apply_difference(base, arrays)
    assert (base.weight - learnt.weight).abs().max() <= changed.abs().max() / 14 + 1e-3  # half of a quantisation step
    assert torch.allclose(base.bias, learnt.bias, atol=1e-3)


def test_a_reader_of_another_encoder_is_refused(tmp_path: Path) -> None:
    write_artefact(tmp_path / "sentiment", Provenance("9", ""), arrays={}, settings={"reads_encoder": "another"})
    with pytest.raises(WriteCareError, match="not trained over") as refusal:
        text_models().encoder.require_matching_encoder(load_manifest(tmp_path / "sentiment"))
    assert refusal.value.slug == "artefact-mismatch"


def test_words_of_one_group_are_read_alike_and_others_as_they_were() -> None:
    [catholic], [sikh], [nurse] = (
        text_models().encoder.encode([conversation(f"The {word} is in the garden.")])
        for word in ("Catholic", "Sikh", "nurse")
    )
    assert np.array_equal(catholic.vectors, sikh.vectors)
    assert not np.array_equal(catholic.vectors, nurse.vectors)


def test_a_word_of_several_tokens_and_one_of_no_group_keep_their_own_meaning() -> None:
    base = mpnet(weights_directory())
    plain = TurnEncoder.from_base_weights(base, ())
    levelled = TurnEncoder.from_base_weights(base, (("sikh", "hindu", "zoroastrian"),))
    before, after = (one.network.embeddings.word_embeddings.weight for one in (plain, levelled))
    changed = (before != after).any(dim=1).nonzero()[:, 0].tolist()
    assert {plain.words([token]) for token in changed} == {"sikh", "hindu"}
