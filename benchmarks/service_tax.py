"""What serving costs: a call of the model API over the same model called in this process.

    ./writecare bench service_tax

Same input, same machine, same run, bare and served one after the other in turn, so that a busy machine slows both.
Prints each call's median ratio; 1.00 would be a service that costs nothing.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import torch

from benchmarks.running import Bench, bench
from models import weights
from models.audio import decode
from models.embedding import EmbeddingModel
from models.records import Conversation, Turn
from models.text import TextModels
from models.transcription import RecognitionOptions, Transcriber
from serving.command.demo import SAMPLE
from serving.placement import Placement

PAIRS = 9
TEXTS = (
    "She has bruises on both arms and says the night carer grabbed her.",
    "Did she say when that was?",
    "On Tuesday, after supper. She does not want him in her room any more.",
    "I will ring the safeguarding team this afternoon and write it up.",
)
CONVERSATION = Conversation(
    id="bench", turns=tuple(Turn(speaker=f"S{at % 2 + 1}", text=text) for at, text in enumerate(TEXTS * 3))
)


@dataclass(frozen=True)
class Pair:
    """One capability, called bare and served on the same input."""

    name: str
    bare: Callable[[], object]
    served: Callable[[], object]


def pairs(running: Bench, client: httpx.Client) -> list[Pair]:
    """The calls that are compared. The bare models compute with as many threads as the replicas."""
    settings = running.instance.settings
    placement = Placement.of(settings)
    torch.set_num_threads(placement.threads)
    text = TextModels.load(settings.data_dir)
    embedding = EmbeddingModel.load(weights.sentence_encoder(placement.verified))
    transcriber = Transcriber(
        weights.whisper(placement.models), RecognitionOptions(device=placement.device, threads=placement.threads)
    )
    audio = SAMPLE.read_bytes()
    reading = {"processing_id": running.grounds["analyse"], **CONVERSATION.model_dump(mode="json")}
    texts = {"processing_id": running.grounds["analyse"], "texts": list(TEXTS)}

    def post(call: str, **content: object) -> object:
        answer = client.post(f"/api/ai/{call}", **content)  # type: ignore[arg-type]
        return answer.raise_for_status().json()

    return [
        Pair("embed (4 texts)", lambda: embedding.embed(TEXTS), lambda: post("embed", json=texts)),
        Pair(
            "detect-safeguarding (12 turns)", lambda: text.safeguarding.assess(CONVERSATION),
            lambda: post("detect-safeguarding", json=reading),
        ),
        Pair(
            "sentiment-analysis (12 turns)", lambda: text.sentiment.predict(CONVERSATION),
            lambda: post("sentiment-analysis", json=reading),
        ),
        Pair(
            "transcribe (46 s, recognition alone bare; with diarization served)",
            lambda: transcriber.transcribe(decode(SAMPLE, max_seconds=600).samples),
            lambda: post(
                "transcribe", data={"processing_id": running.grounds["transcribe"]}, files={"audio": ("a.flac", audio)}
            ),
        ),
    ]  # fmt: skip


def measured(pair: Pair) -> tuple[float, float, float]:
    """Median seconds bare and served, and the median of the ratios of the pairs."""
    pair.bare(), pair.served()  # warm
    bare: list[float] = []
    served: list[float] = []
    for turn in range(PAIRS):
        order = [(pair.bare, bare), (pair.served, served)]
        for call, kept in order if turn % 2 == 0 else reversed(order):
            started = time.perf_counter()
            call()
            kept.append(time.perf_counter() - started)
    ratios = [one / other for one, other in zip(served, bare, strict=True)]
    return statistics.median(bare), statistics.median(served), statistics.median(ratios)


def main() -> int:
    with bench() as running:
        headers = {"Authorization": f"Bearer {running.tokens.lead}"}
        with httpx.Client(base_url=running.instance.serve_url, headers=headers, timeout=300, trust_env=False) as client:
            print(f"{'call':70} {'bare ms':>9} {'served ms':>10} {'ratio':>6}")
            for pair in pairs(running, client):
                bare, served, ratio = measured(pair)
                print(f"{pair.name:70} {bare * 1e3:9.1f} {served * 1e3:10.1f} {ratio:6.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
