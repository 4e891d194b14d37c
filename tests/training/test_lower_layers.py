"""What lower layers say is kept, and the upper ones go on from it as if nothing had been kept."""

from pathlib import Path

import torch

from models.turn_encoder import TurnEncoder, pooled, windows
from models.weights import mpnet
from tests.readers import conversation, weights_directory
from training.lower_layers import after_lower_layers


def test_upper_layers_go_on_from_what_is_kept(tmp_path: Path) -> None:
    encoder = TurnEncoder.untrained(mpnet(weights_directory()), ())
    taken = windows(encoder.pieces(conversation("Morning.", "The carer shouted at her."))[0])
    with torch.inference_mode():
        whole = encoder.forward(taken)
        [lower] = after_lower_layers(encoder, taken, 6, tmp_path)
        upper = pooled(encoder.network.through(lower.float(), [len(taken[0].ids)], 6), taken)
    assert torch.allclose(whole, upper, atol=5e-3)  # kept in 16 bits
    assert len(list(tmp_path.iterdir())) == 1
    [again] = after_lower_layers(encoder, taken, 6, tmp_path)
    assert torch.equal(again, lower)
