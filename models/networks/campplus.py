"""The speaker embedding network of diarization: CAM++ as a `pyannote.audio` model.

`models/artefacts/weights.py` converts the packaged weights to a pyannote checkpoint once. The pipeline that
`models/speech/diarization.py` loads calls this network for every speaker of every window. The layers have the names
of the published weights. Architecture: Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification
Using Context-Aware Masking", Interspeech 2023; weights: 3D-Speaker (Apache-2.0).
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyannote.audio
import torch
from pyannote.audio.core.model import Model
from pyannote.audio.core.task import Problem, Resolution, Specifications
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.compliance import kaldi

DIMENSION: Final = 192
_MEL_BINS: Final = 80
_MIN_FRAMES: Final = 40  # 0.4 s; context pooling fails on less, so shorter stretches are repeated to this length
_LENGTH_STEP: Final = 50  # frames; stretches are repeated to a multiple of this, so that equal lengths share a batch
_BATCH: Final = 16


class CamPlusPlus(Model):
    """Computes 192-d speaker embeddings of 16 kHz mono waveforms, one for each row, from the frames in its mask."""

    def __init__(self, sample_rate: int = 16000, num_channels: int = 1, task: Any = None) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        self.save_hyperparameters("sample_rate", "num_channels")
        self.head = _Head()
        self.xvector = _context_network(self.head.channels_out)

    @property
    def dimension(self) -> int:
        return DIMENSION

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embed `waveforms` (batch, 1, samples), using only frames where `weights` (batch, frames) exceeds 0.5.

        A row with an empty mask gives NaN, which pyannote's clustering ignores. Frames are selected before the
        network, not weighted after it. So the context-aware masks see only one voice, and a window with little speech
        needs little computation.
        """
        features = _filter_banks(waveforms)
        if weights is None:
            return self._embed(list(features))
        masks = functional.interpolate(weights.unsqueeze(1), size=features.shape[1], mode="nearest").squeeze(1) > 0.5
        kept = [index for index in range(len(masks)) if bool(masks[index].any())]
        embeddings = torch.full((len(masks), DIMENSION), torch.nan, device=features.device)
        if kept:
            embeddings[kept] = self._embed([features[index][masks[index]] for index in kept])
        return embeddings

    def _embed(self, stretches: Sequence[Tensor]) -> Tensor:
        """Embed stretches of frames (frames, mel bins) of any length, batched by length. Returns (stretches, 192)."""
        filled = [_repeated(stretch - stretch.mean(dim=0)) for stretch in stretches]
        order = sorted(range(len(filled)), key=lambda index: len(filled[index]))
        embeddings = torch.empty((len(filled), DIMENSION), device=filled[0].device)
        batch: list[int] = []
        for index in order:
            if batch and (len(batch) == _BATCH or len(filled[batch[0]]) != len(filled[index])):
                embeddings[batch] = self._network(torch.stack([filled[member] for member in batch]))
                batch = []
            batch.append(index)
        embeddings[batch] = self._network(torch.stack([filled[member] for member in batch]))
        return embeddings

    def _network(self, features: Tensor) -> Tensor:
        return self.xvector(self.head(features.transpose(1, 2))).squeeze(-1)


def write_checkpoint(source: Path, target: Path) -> None:
    """Convert the published weights at `source` to a checkpoint that `pyannote.audio.Model.from_pretrained` loads."""
    state = torch.load(source, weights_only=True, map_location="cpu")
    CamPlusPlus().load_state_dict(state, strict=True)
    checkpoint = {
        "state_dict": state,
        "hyper_parameters": {"sample_rate": 16000, "num_channels": 1},
        "pytorch-lightning_version": "2.5.0",  # version of the checkpoint format, not of the installed library
        "pyannote.audio": {
            "versions": {"pyannote.audio": pyannote.audio.__version__},
            "architecture": {"module": CamPlusPlus.__module__, "class": CamPlusPlus.__name__},
            "specifications": Specifications(
                problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=10.0
            ),
        },
    }
    torch.save(checkpoint, target)


def write_identity_plda(directory: Path) -> None:
    """Write an identity PLDA: pyannote 4 requires a PLDA, but agglomerative clustering does not use it."""
    zeros, identity = np.zeros(DIMENSION), np.eye(DIMENSION)
    np.savez(directory / "xvec_transform.npz", mean1=zeros, mean2=zeros, lda=identity)
    np.savez(directory / "plda.npz", mu=zeros, tr=identity, psi=np.ones(DIMENSION))


# --- features ------------------------------------------------------------------------------------------------


def _filter_banks(waveforms: Tensor) -> Tensor:
    """(batch, 1, samples) -> (batch, frames, mel bins). A row equal to the row before it is computed once."""
    if waveforms.shape[-1] < 400:
        raise ValueError("a speaker embedding needs at least 25 ms of audio")
    rows: list[Tensor] = []
    for index in range(len(waveforms)):
        if index and torch.equal(waveforms[index], waveforms[index - 1]):
            rows.append(rows[-1])
        else:
            rows.append(kaldi.fbank(waveforms[index], num_mel_bins=_MEL_BINS, sample_frequency=16000, dither=0.0))
    return torch.stack(rows)


def _repeated(stretch: Tensor) -> Tensor:
    """Lengthen a stretch by repeating it. Zeros would change its statistics; the same voice does not."""
    wanted = max(_MIN_FRAMES, -(-len(stretch) // _LENGTH_STEP) * _LENGTH_STEP)
    times = -(-wanted // len(stretch))
    return stretch.repeat(times, 1)[:wanted]


# --- the network ---------------------------------------------------------------------------------------------


class _Residual(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(out + self.shortcut(x))


class _Head(nn.Module):
    """Two-dimensional convolutions over time and frequency; (batch, mel, frames) -> (batch, channels_out, frames)."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(_Residual(channels, 2), _Residual(channels, 1))
        self.layer2 = nn.Sequential(_Residual(channels, 2), _Residual(channels, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.channels_out = channels * (_MEL_BINS // 8)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x.unsqueeze(1))))
        out = functional.relu(self.bn2(self.conv2(self.layer2(self.layer1(out)))))
        return out.flatten(1, 2)


class _Context(nn.Module):
    """The context-aware mask: local convolution, gated by the mean of the stretch and of its 100-frame segment."""

    def __init__(self, channels: int, out: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(channels, out, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(channels, channels // 2, 1)
        self.linear2 = nn.Conv1d(channels // 2, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        segments = functional.avg_pool1d(x, kernel_size=100, stride=100, ceil_mode=True)
        context = x.mean(-1, keepdim=True) + segments.repeat_interleave(100, dim=-1)[..., : x.shape[-1]]
        return self.linear_local(x) * torch.sigmoid(self.linear2(functional.relu(self.linear1(context))))


class _Dense(nn.Module):
    def __init__(self, channels: int, growth: int, bottleneck: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _normalised(channels)
        self.linear1 = nn.Conv1d(channels, bottleneck, 1, bias=False)
        self.nonlinear2 = _normalised(bottleneck)
        self.cam_layer = _Context(bottleneck, growth, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))], dim=1)


class _Layer(nn.Module):
    """A convolution before or after its normalisation, named as in the published weights."""

    def __init__(self, linear: nn.Module, nonlinear: nn.Module, *, linear_first: bool) -> None:
        super().__init__()
        self.linear = linear
        self.nonlinear = nonlinear
        self._linear_first = linear_first

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlinear(self.linear(x)) if self._linear_first else self.linear(self.nonlinear(x))


class _Statistics(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(-1), x.std(-1, unbiased=True)], dim=-1).unsqueeze(-1)


def _normalised(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


def _context_network(channels: int) -> nn.Sequential:
    growth, bottleneck = 32, 128
    network = nn.Sequential()
    first = nn.Conv1d(channels, 128, 5, stride=2, padding=2, bias=False)
    network.add_module("tdnn", _Layer(first, _normalised(128), linear_first=True))
    channels = 128
    for number, (depth, dilation) in enumerate([(12, 1), (24, 2), (16, 2)], start=1):
        block = nn.Sequential()
        for layer in range(depth):
            block.add_module(f"tdnnd{layer + 1}", _Dense(channels + layer * growth, growth, bottleneck, dilation))
        network.add_module(f"block{number}", block)
        channels += depth * growth
        halved = nn.Conv1d(channels, channels // 2, 1, bias=False)
        network.add_module(f"transit{number}", _Layer(halved, _normalised(channels), linear_first=False))
        channels //= 2
    network.add_module("out_nonlinear", _normalised(channels))
    network.add_module("stats", _Statistics())
    last = nn.Conv1d(channels * 2, DIMENSION, 1, bias=False)
    final = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(DIMENSION, affine=False)))
    network.add_module("dense", _Layer(last, final, linear_first=True))
    return network
