"""Runs the models directly in a separate process, as the baseline for the served models.

The process is like a replica: the same environment, the same number of threads per capability; but without Ray, HTTP,
token and lawful basis.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cli.demo import SAMPLE
from comms.kernel.settings import Settings
from models.artefacts import weights
from models.contract.records import Conversation
from serving.placement import ReplicaSettings

_CALLS: dict[str, tuple[int, Callable[[], object]]] = {}  # only in the child process: threads and call by name


@dataclass(frozen=True)
class Inputs:
    """The input of both sides."""

    conversation: Conversation
    texts: Sequence[str]


@contextmanager
def bare_models(settings: Settings, inputs: Inputs) -> Iterator[Callable[[str], float]]:
    """A function that calls a capability by name in the child process and returns the seconds it took."""
    # as in the launcher's children
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MALLOC_ARENA_MAX="2")
    with ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), initializer=_load, initargs=(settings.data_dir, inputs)
    ) as child:
        yield lambda name: child.submit(_timed, name).result()


def _load(data_dir: Any, inputs: Inputs) -> None:
    from models.audio.decoder import decode  # noqa: PLC0415 - only the child process may import torch
    from models.speech.transcription import RecognitionOptions, Transcriber  # noqa: PLC0415
    from models.text.analysis import TextModels  # noqa: PLC0415
    from models.text.embedding import EmbeddingModel  # noqa: PLC0415

    placement = ReplicaSettings.of(Settings(data_dir=data_dir))
    text = TextModels.load(data_dir)
    embedding = EmbeddingModel.load(weights.sentence_encoder(placement.verified_dir))
    options = RecognitionOptions(device=placement.device, threads=placement.threads, readings=placement.readings)
    transcriber = Transcriber(weights.whisper(placement.models), options)
    _CALLS.update(
        {
            "embed": (1, lambda: embedding.embed(inputs.texts)),
            "detect-safeguarding": (1, lambda: text.safeguarding.score_with_evidence(inputs.conversation)),
            "sentiment-analysis": (1, lambda: text.sentiment.predict(inputs.conversation)),
            "transcribe": (
                placement.threads, lambda: transcriber.transcribe(decode(SAMPLE, max_seconds=600).samples),
            ),
        }
    )  # fmt: skip


def _timed(name: str) -> float:
    import torch  # noqa: PLC0415

    threads, call = _CALLS[name]
    torch.set_num_threads(threads)
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
