"""Diarization of conversations: the official pyannote.audio pipeline with its grouping of voices done anew.

On the walk: named by the `config.yaml` that `models/weights.py` lays out, loaded by `models/diarization.py`.

The official pipeline embeds each voice that its segmentation tells apart in a ten-second window. On calls between
alike voices the segmentation takes two for one (of the windows of our sample calls up to half were mixed), and
no grouping can part them afterwards. So segmentation and speaker counting are kept, for where there is speech
and where two speak at once; but voices are embedded on stretches of 1.5 s every half second, grouped by average
linkage, and each moment goes to a voice by the best path through their similarities, where a change of speaker
costs something and costs less after a pause. Three embeddings a second of speech take the place of ten and more.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio.pipelines.speaker_diarization import DiarizeOutput, SpeakerDiarization
from pyannote.core import Annotation, Segment
from scipy.cluster.hierarchy import fcluster, linkage

Floats = NDArray[np.float64]
Stretches = list[tuple[int, int]]  # start and end in frames of _FRAME seconds

_FRAME: Final = 0.02
_WINDOW: Final = 75  # frames: 1.5 s, enough for a voice and short against a turn
_HOP: Final = 25  # frames: 0.5 s
_SHORTEST: Final = 10  # frames: 0.2 s, shorter speech joins what is near
_CLUSTERED: Final = 45  # frames: stretches under 0.9 s are too unsure to found a voice
_MOST_CLUSTERED: Final = 4000  # linkage is quadratic; an evenly spaced sample stands for a long call
_CHANGE: Final = 12.0  # cost of a change of speaker: half a unit of cosine similarity for a quarter second
_CHANGE_AFTER_PAUSE: Final = 1.8
_PER_FRAME: Final = 2.0
_SMALL: Final = 4  # windows; a voice heard this little must also differ clearly from the others
_SMALL_SIMILARITY: Final = 0.3


class ConversationDiarization(SpeakerDiarization):
    """`pyannote.audio.pipelines.SpeakerDiarization` for conversations; same parameters, calls and answer."""

    def apply(
        self,
        file: Any,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        hook: Any = None,
        **_: Any,
    ) -> DiarizeOutput:
        """Find the turns of `file` (`waveform` float32[1, n], `sample_rate`); labels are SPEAKER_00, SPEAKER_01 …"""
        hook = self.setup_hook(file, hook=hook)
        segmentations = self.get_segmentations(file, hook=hook)
        count = self.speaker_count(segmentations, self._segmentation.model.receptive_field, warm_up=(0.0, 0.0))
        voices = _active(count, 1)
        if not voices:
            return _answer(file["uri"], [], [], np.zeros((0, self._embedding.dimension)))
        windows = list(_windows(voices))
        embeddings = self._embed(file["waveform"], file["sample_rate"], windows)
        hook("embeddings", embeddings)
        lengths = np.array([end - start for start, end in windows])
        least, most = num_speakers or min_speakers or 1, num_speakers or max_speakers or 20
        centroids = _voices(
            embeddings[lengths >= _CLUSTERED] if (lengths >= _CLUSTERED).any() else embeddings,
            threshold=self.clustering.threshold,
            smallest=self.clustering.min_cluster_size,
            least=least,
            most=most,
        )
        path = _best_path(_similarities(windows, embeddings @ centroids.T, voices[-1][1]), voices)
        return _answer(file["uri"], _runs(path), list(_second_voices(path, _active(count, 2))), centroids)

    def _embed(self, waveform: torch.Tensor, rate: int, windows: Stretches) -> Floats:
        """Unit-length embeddings (windows, dimension); windows of equal length share a batch."""
        step = round(rate * _FRAME)
        order = sorted(range(len(windows)), key=lambda index: windows[index][1] - windows[index][0])
        embeddings = np.zeros((len(windows), self._embedding.dimension))
        batch: list[int] = []
        for place, index in enumerate(order):
            batch.append(index)
            following = windows[order[place + 1]] if place + 1 < len(order) else (0, 0)
            length = windows[index][1] - windows[index][0]
            if len(batch) == self.embedding_batch_size or following[1] - following[0] != length:
                cut = [waveform[:, windows[one][0] * step : windows[one][0] * step + length * step] for one in batch]
                shortest = min(piece.shape[1] for piece in cut)  # the last window may pass the end of the file
                embeddings[batch] = self._embedding(torch.stack([piece[:, :shortest] for piece in cut]))
                batch = []
        return _unit(embeddings)


def _answer(
    uri: str, alone: list[tuple[int, int, int]], seconds: list[tuple[int, int, int]], centroids: Floats
) -> DiarizeOutput:
    return DiarizeOutput(_annotation(uri, [*alone, *seconds]), _annotation(uri, alone), centroids)


def _annotation(uri: str, turns: list[tuple[int, int, int]]) -> Annotation:
    found = Annotation(uri=uri)
    for number, (start, end, voice) in enumerate(turns):
        found[Segment(start * _FRAME, end * _FRAME), number] = f"SPEAKER_{voice:02d}"
    return found.support()


def _active(count: Any, least: int) -> Stretches:
    """Where at least `least` people speak, short holes closed."""
    sliding = count.sliding_window
    middles = (sliding.start + sliding.duration / 2 + np.arange(len(count.data)) * sliding.step) / _FRAME
    found: Stretches = []
    for middle in middles[count.data[:, 0] >= least]:
        start, end = max(0, round(middle - sliding.step / 2 / _FRAME)), round(middle + sliding.step / 2 / _FRAME) + 1
        if found and start - found[-1][1] <= _SHORTEST:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return [(start, end) for start, end in found if end - start >= (_SHORTEST if least == 1 else 3)]


def _windows(voices: Stretches) -> Iterator[tuple[int, int]]:
    for start, end in voices:
        if end - start <= _WINDOW:
            yield start, end
            continue
        steps = -(-(end - start - _WINDOW) // _HOP)
        for step in range(steps + 1):
            at = start + round(step * (end - start - _WINDOW) / steps)
            yield at, at + _WINDOW


def _voices(embeddings: Floats, *, threshold: float, smallest: int, least: int, most: int) -> Floats:
    """The voices (voices, dimension): centroids of the groups, `least` to `most` of them as far as there are."""
    if len(embeddings) < 2:
        return embeddings
    sample = embeddings[np.linspace(0, len(embeddings) - 1, min(len(embeddings), _MOST_CLUSTERED)).astype(int)]
    tree = linkage(sample, method="average", metric="cosine")
    groups = _groups(sample, fcluster(tree, threshold, "distance"), smallest)
    wanted = least
    while len(groups) < least and wanted <= min(len(sample), 4 * least + 8):
        groups = _groups(sample, fcluster(tree, wanted, "maxclust"), smallest)
        wanted += 1
    centroids = _unit(np.stack([sample[group].mean(axis=0) for group in groups[:most]]))
    nearest = np.argmax(sample @ centroids.T, axis=1)
    return _unit(
        np.stack(
            [
                sample[nearest == voice].mean(axis=0) if (nearest == voice).any() else centroids[voice]
                for voice in range(len(centroids))
            ]
        )
    )


def _groups(sample: Floats, labels: NDArray[np.int32], smallest: int) -> list[NDArray[np.bool_]]:
    """Groups of windows, largest first, without those too small to be a voice of their own."""
    groups = sorted(((labels == label) for label in np.unique(labels)), key=lambda group: -int(group.sum()))
    kept = groups[:1]
    for group in groups[1:]:
        size = int(group.sum())
        centroid = _unit(sample[group].mean(axis=0))
        nearest = max(float(centroid @ _unit(sample[other].mean(axis=0))) for other in kept)
        if size >= smallest and (size >= _SMALL or nearest < _SMALL_SIMILARITY):
            kept.append(group)
    return kept


def _similarities(windows: Stretches, similar: Floats, length: int) -> Floats:
    """(frames, voices): the windows' similarities spread over their frames, the middle of a window counting most."""
    total, weights = np.zeros((length, similar.shape[1])), np.full(length, 1e-6)
    for (start, end), values in zip(windows, similar, strict=True):
        middle = (start + end) / 2
        weight = np.maximum(0.05, 1 - np.abs(np.arange(start, end) + 0.5 - middle) / ((end - start) / 2))
        total[start:end] += weight[:, None] * values
        weights[start:end] += weight
    return total / weights[:, None]


def _best_path(similar: Floats, voices: Stretches) -> NDArray[np.int64]:
    """For each frame the voice on the best path (Viterbi), -1 where nobody speaks."""
    frames = np.concatenate([np.arange(start, end) for start, end in voices])
    after_pause = {start for start, _ in voices}
    gains = similar[frames] * _PER_FRAME
    stay = np.arange(gains.shape[1])
    best = gains[0].copy()
    came_from = np.zeros(gains.shape, dtype=np.int64)
    for step in range(1, len(frames)):
        leader = int(best.argmax())
        changed = best[leader] - (_CHANGE_AFTER_PAUSE if int(frames[step]) in after_pause else _CHANGE)
        came_from[step] = np.where(changed > best, leader, stay)
        best = np.maximum(best, changed) + gains[step]
    path = np.full(len(similar), -1, dtype=np.int64)
    voice = int(best.argmax())
    for step in range(len(frames) - 1, -1, -1):
        path[frames[step]] = voice
        voice = int(came_from[step][voice])
    return path


def _runs(path: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    return [(start, end, int(path[start])) for start, end in pairwise(edges) if path[start] >= 0]


def _second_voices(path: NDArray[np.int64], overlaps: Stretches) -> Iterator[tuple[int, int, int]]:
    """Where two speak at once: those who speak before and after it, if they differ."""
    for start, end in overlaps:
        before, after = path[max(0, start - _HOP) : start], path[end : end + _HOP]
        earlier, later = before[before >= 0], after[after >= 0]
        if len(earlier) and len(later) and earlier[-1] != later[0]:
            yield start, min(end, len(path)), int(earlier[-1])
            yield start, min(end, len(path)), int(later[0])


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))
