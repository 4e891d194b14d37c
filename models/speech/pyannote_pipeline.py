"""The diarization pipeline: the official pyannote.audio pipeline with another clustering of voices.

The `config.yaml` that `models/artefacts/weights.py` writes names this class; `models/speech/diarization.py` loads it.

The official pipeline computes one embedding for each voice that its segmentation finds in a ten-second window. If two
voices are alike, the segmentation takes them for one: in our sample calls, up to half of the windows were mixed.
Clustering cannot separate them afterwards. So this pipeline uses the segmentation and the speaker count only to find
speech and overlap. It embeds windows of 1.5 s every half second and clusters them by average linkage. It then assigns
each frame to a voice by the best path (Viterbi) through the similarities. A change of speaker has a cost, which is
lower after a pause. It needs three embeddings for each second of speech; the official pipeline needs ten or more.
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
from scipy.optimize import nnls

Floats = NDArray[np.float64]
Stretches = list[tuple[int, int]]  # start and end in frames of _FRAME seconds

_FRAME: Final = 0.02
_WINDOW: Final = 75  # frames: 1.5 s, enough to embed a voice, and short compared to a turn
_HOP: Final = 25  # frames: 0.5 s
_SHORTEST: Final = 10  # frames: 0.2 s; shorter gaps are closed and shorter speech is dropped
_CLUSTERED: Final = 45  # frames: windows under 0.9 s are too uncertain for clustering
_MOST_CLUSTERED: Final = 1500  # windows; clustering is quadratic, so a long call is sampled in evenly spread runs
_RUN: Final = 20  # windows in a run
_CHANGE: Final = 12.0  # cost of a change of speaker: half a unit of cosine similarity for a quarter second
_CHANGE_AFTER_PAUSE: Final = 1.8
_PER_FRAME: Final = 2.0
_SAME_VOICE: Final = 0.8  # similarity of groups, 1 for the same voice; two alike voices reached 0.73
_MOST_EXPLAINED: Final = 0.65  # a group of which other groups explain a larger share is not a voice of its own
_SMALL: Final = 4  # windows; a smaller group has the stricter limit below
_MOST_EXPLAINED_SMALL: Final = 0.3
_PRIOR_PAIRS: Final = 10.0  # pairs of windows: weight of the prior from the other groups
_USUAL_SIMILARITY: Final = 0.65  # of two windows of one voice
_LEAST_SIMILARITY: Final = 0.1


class ConversationDiarization(SpeakerDiarization):
    """`pyannote.audio.pipelines.SpeakerDiarization` for conversations, with the same parameters, calls and result."""

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
        voices = _active_stretches(count, 1)
        if not voices:
            return _to_output(file["uri"], [], [], np.zeros((0, self._embedding.dimension)))
        windows = list(_windows(voices))
        embeddings = self._embed(file["waveform"], file["sample_rate"], windows)
        hook("embeddings", embeddings)
        lengths = np.array([end - start for start, end in windows])
        clustered = np.flatnonzero(lengths >= min(_CLUSTERED, lengths.max()))
        least, most = num_speakers or min_speakers or 1, num_speakers or max_speakers or 20
        centroids = _voice_centroids(
            embeddings[clustered],
            [windows[index] for index in clustered],
            threshold=self.clustering.threshold,
            smallest=self.clustering.min_cluster_size,
            least=least,
            most=most,
        )
        path = _best_path(_similarities(windows, embeddings @ centroids.T, voices[-1][1]), voices)
        return _to_output(
            file["uri"], _path_segments(path), list(_second_voices(path, _active_stretches(count, 2))), centroids
        )

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


def _to_output(
    uri: str, alone: list[tuple[int, int, int]], seconds: list[tuple[int, int, int]], centroids: Floats
) -> DiarizeOutput:
    return DiarizeOutput(_annotation(uri, [*alone, *seconds]), _annotation(uri, alone), centroids)


def _annotation(uri: str, turns: list[tuple[int, int, int]]) -> Annotation:
    found = Annotation(uri=uri)
    for number, (start, end, voice) in enumerate(turns):
        found[Segment(start * _FRAME, end * _FRAME), number] = f"SPEAKER_{voice:02d}"
    return found.support()


def _active_stretches(count: Any, least: int) -> Stretches:
    """The time spans in which at least `least` people speak, with short gaps closed."""
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


def _voice_centroids(
    embeddings: Floats, windows: Stretches, *, threshold: float, smallest: int, least: int, most: int
) -> Floats:
    """The centroids (voices, dimension) of `least` to `most` voices, as far as there are enough windows.

    Linkage with a strict threshold gives many groups. Groups of the same voice are then joined. Groups that a mixture
    of others explains are dropped, the smallest first: they are windows with a change of speaker.
    """
    if len(embeddings) < 2:
        return embeddings
    kept = _sample_windows(len(embeddings))
    sample, places = embeddings[kept], [windows[index] for index in kept]
    tree = linkage(sample, method="average", metric="cosine")
    labels = fcluster(tree, threshold, "distance")
    if len(np.unique(labels)) < least:
        labels = fcluster(tree, least, "maxclust")
    similar, disjoint = _pair_similarities(sample, places)
    groups = _drop_small_groups([np.flatnonzero(labels == label) for label in np.unique(labels)], smallest, least)
    while len(groups) > least:
        similarity = np.tril(_group_similarity(similar, disjoint, _core_windows(groups, places)), -1)
        other, one = np.unravel_index(int(similarity.argmax()), similarity.shape)
        if similarity[other, one] < _SAME_VOICE and len(groups) <= most:
            break
        groups[one] = np.sort(np.concatenate([groups[one], groups[other]]))
        del groups[other]
    groups.sort(key=len, reverse=True)
    for number in range(len(groups) - 1, 0, -1):
        similarity = _group_similarity(similar, disjoint, _core_windows(groups, places))
        explained = _explained_share(similarity, number)
        limit = _MOST_EXPLAINED if len(groups[number]) >= _SMALL else _MOST_EXPLAINED_SMALL
        if explained >= limit and len(groups) > least:
            del groups[number]
    centroids = _unit(np.stack([sample[group].mean(axis=0) for group in _core_windows(groups, places)]))
    nearest = np.argmax(sample @ centroids.T, axis=1)
    return _unit(
        np.stack(
            [
                sample[nearest == voice].mean(axis=0) if (nearest == voice).any() else centroids[voice]
                for voice in range(len(centroids))
            ]
        )
    )


def _sample_windows(length: int) -> NDArray[np.int64]:
    """Indices of at most `_MOST_CLUSTERED` of `length` windows: runs of neighbours, evenly spread over the call."""
    indices = np.arange(length)
    if length <= _MOST_CLUSTERED:
        return indices
    block = indices // _RUN
    return indices[np.floor((block + 1) * _MOST_CLUSTERED / length) > np.floor(block * _MOST_CLUSTERED / length)]


def _drop_small_groups(groups: list[NDArray[np.int64]], smallest: int, least: int) -> list[NDArray[np.int64]]:
    """The groups, largest first, without those smaller than `smallest`; but at least `least` groups are kept."""
    groups = sorted(groups, key=len, reverse=True)
    return [group for number, group in enumerate(groups) if number < max(1, least) or len(group) >= smallest]


def _pair_similarities(sample: Floats, places: Stretches) -> tuple[Floats, Floats]:
    """Two matrices (windows, windows): similarities, 0 for overlapping windows; and 1 where windows do not overlap."""
    starts, ends = np.array(places).T
    disjoint = (starts[:, None] >= ends[None, :]) | (starts[None, :] >= ends[:, None])
    return (sample @ sample.T) * disjoint, disjoint.astype(np.float64)


def _core_windows(groups: list[NDArray[np.int64]], places: Stretches) -> list[NDArray[np.int64]]:
    """For each group, the windows whose overlapping neighbours are in the same group, so far from a speaker change."""
    labels = np.full(len(places), -1)
    for number, group in enumerate(groups):
        labels[group] = number
    starts, ends = np.array(places).T
    unlike = (labels[1:] != labels[:-1]) & (starts[1:] < ends[:-1])  # between a window and the one after it
    pure = ~(np.append(unlike, False) | np.append(False, unlike))
    return [group[pure[group]] if pure[group].sum() >= 2 else group for group in groups]


def _group_similarity(similar: Floats, disjoint: Floats, groups: list[NDArray[np.int64]]) -> Floats:
    """Similarity of groups (groups, groups), 1 for the same voice: that between them divided by that within them.

    This is the correction for attenuation (Spearman 1904). Telephone sound or noise lowers the similarity between
    windows of one voice and of two voices by the same factor, so the ratio means the same on every line. For groups
    with few windows, the inner similarity is estimated also from the other groups.
    """
    member = np.zeros((len(groups), len(similar)))
    for number, group in enumerate(groups):
        member[number, group] = 1.0
    sums, counts = member @ similar @ member.T, member @ disjoint @ member.T
    inner = sums.trace() / counts.trace() if counts.trace() else _USUAL_SIMILARITY
    within = (sums.diagonal() + _PRIOR_PAIRS * inner) / (counts.diagonal() + _PRIOR_PAIRS)
    scale = np.sqrt(np.maximum(within, _LEAST_SIMILARITY))
    similarity = sums / np.maximum(counts, 1.0) / scale[:, None] / scale[None, :]
    np.fill_diagonal(similarity, 1.0)
    return np.asarray(similarity)


def _explained_share(similarity: Floats, number: int) -> float:
    """The share of group `number` that a mixture of the other groups explains (nonnegative least squares)."""
    others = [at for at in range(len(similarity)) if at != number]
    values, vectors = np.linalg.eigh(similarity[np.ix_(others, others)])
    root = (vectors * np.sqrt(np.maximum(values, 1e-6))) @ vectors.T
    wanted = similarity[others, number]
    weights, _ = nnls(root, np.linalg.solve(root, wanted))
    return float(2 * weights @ wanted - weights @ similarity[np.ix_(others, others)] @ weights)


def _similarities(windows: Stretches, similar: Floats, length: int) -> Floats:
    """(frames, voices): similarities of the windows averaged over frames; the middle of a window has most weight."""
    total, weights = np.zeros((length, similar.shape[1])), np.full(length, 1e-6)
    for (start, end), values in zip(windows, similar, strict=True):
        middle = (start + end) / 2
        weight = np.maximum(0.05, 1 - np.abs(np.arange(start, end) + 0.5 - middle) / ((end - start) / 2))
        total[start:end] += weight[:, None] * values
        weights[start:end] += weight
    return total / weights[:, None]


def _best_path(similar: Floats, voices: Stretches) -> NDArray[np.int64]:
    """The voice of each frame on the best path (Viterbi); -1 where nobody speaks."""
    frames = np.concatenate([np.arange(start, end) for start, end in voices])
    after_pause = {start for start, _ in voices}
    gains = similar[frames] * _PER_FRAME
    same_voice = np.arange(gains.shape[1])
    best = gains[0].copy()
    came_from = np.zeros(gains.shape, dtype=np.int64)
    for step in range(1, len(frames)):
        leader = int(best.argmax())
        changed = best[leader] - (_CHANGE_AFTER_PAUSE if int(frames[step]) in after_pause else _CHANGE)
        came_from[step] = np.where(changed > best, leader, same_voice)
        best = np.maximum(best, changed) + gains[step]
    path = np.full(len(similar), -1, dtype=np.int64)
    voice = int(best.argmax())
    for step in range(len(frames) - 1, -1, -1):
        path[frames[step]] = voice
        voice = int(came_from[step][voice])
    return path


def _path_segments(path: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    return [(start, end, int(path[start])) for start, end in pairwise(edges) if path[start] >= 0]


def _second_voices(path: NDArray[np.int64], overlaps: Stretches) -> Iterator[tuple[int, int, int]]:
    """The turns where two speak at once: the speakers before and after the overlap, if they differ."""
    for start, end in overlaps:
        before, after = path[max(0, start - _HOP) : start], path[end : end + _HOP]
        earlier, later = before[before >= 0], after[after >= 0]
        if len(earlier) and len(later) and earlier[-1] != later[0]:
            yield start, min(end, len(path)), int(earlier[-1])
            yield start, min(end, len(path)), int(later[0])


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))
