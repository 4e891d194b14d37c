"""What the lower layers of the encoder say of a window, worked out once and left on disk.

Called by `training/fine_tuning` where only the upper layers learn: a pass through the lower ones then costs once what
it would cost in each epoch.
"""

import hashlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from models.turn_encoder import TurnEncoder, Window


def after_lower_layers(
    encoder: TurnEncoder, wanted: Sequence[Window], first_layer: int, directory: Path
) -> list[torch.Tensor]:
    """(tokens, 768) float16 a window, in order: after the layers before `first_layer`.

    A window of which `directory` has a file is taken from there; each file is written whole or not at all.
    """
    directory.mkdir(parents=True, exist_ok=True)
    encoder.network.eval()
    return [_of_one(encoder, window, first_layer, directory) for window in wanted]


def _of_one(encoder: TurnEncoder, window: Window, first_layer: int, directory: Path) -> torch.Tensor:
    file = directory / f"{hashlib.sha256(array('l', window.ids).tobytes()).hexdigest()[:24]}.safetensors"
    if file.exists():
        return load_file(file)["hidden"]
    lengths = [len(window.ids)]
    with torch.inference_mode():
        hidden = encoder.network.embeddings(torch.tensor(window.ids), lengths)
        found = encoder.network.through(hidden, lengths, 0, first_layer).half()
    beside = file.with_suffix(f".{os.getpid()}")
    save_file({"hidden": found}, beside)
    beside.replace(file)
    return found
