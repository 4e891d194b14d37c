"""Measures what serving costs: a call of the model API, compared with the same model called directly.

    ./writecare bench service_tax

Same input, machine and run. Direct and served calls alternate, so that a busy machine slows both. Prints the median
ratio of each call; 1.00 means that serving costs nothing. For `transcribe`, the direct side runs only recognition, the
served side recognition and diarization in parallel.
"""

import statistics
import sys
import time
from collections.abc import Callable

import httpx

from benchmarks.bare_models import Inputs, bare_models
from benchmarks.running_instance import BenchInstance, bench
from cli.demo import SAMPLE
from models.contract.records import Conversation, Turn

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
CALLS = ("embed", "detect-safeguarding", "sentiment-analysis", "transcribe")


def served_call(running: BenchInstance, client: httpx.Client) -> Callable[[str], float]:
    """Returns a function that calls an endpoint by name on Serve's own port and returns the seconds it took."""
    analyse, transcribe = running.grounds["analyse"], running.grounds["transcribe"]
    audio = SAMPLE.read_bytes()
    reading = {"processing_id": analyse, **CONVERSATION.model_dump(mode="json")}
    content = {
        "embed": {"json": {"processing_id": analyse, "texts": list(TEXTS)}},
        "detect-safeguarding": {"json": reading},
        "sentiment-analysis": {"json": reading},
        "transcribe": {"data": {"processing_id": transcribe}, "files": {"audio": ("a.flac", audio)}},
    }

    def timed(name: str) -> float:
        started = time.perf_counter()
        client.post(f"/api/ai/{name}", **content[name]).raise_for_status()  # type: ignore[arg-type]
        return time.perf_counter() - started

    return timed


def measured(name: str, bare: Callable[[str], float], served: Callable[[str], float]) -> tuple[float, float, float]:
    """Median seconds of direct and served calls, and the median of the pairs' ratios."""
    bare(name), served(name)  # warm-up
    pairs = []
    for turn in range(PAIRS):
        if turn % 2 == 0:
            alone = bare(name)
            pairs.append((alone, served(name)))
        else:
            through = served(name)
            pairs.append((bare(name), through))
    ratios = [through / alone for alone, through in pairs]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs), statistics.median(ratios)


def main() -> int:
    with (
        bench() as running,
        bare_models(running.instance.settings, Inputs(CONVERSATION, TEXTS)) as bare,
        httpx.Client(
            base_url=running.instance.serve_url, headers={"Authorization": f"Bearer {running.tokens.lead}"},
            timeout=300, trust_env=False,
        ) as client,
    ):  # fmt: skip
        served = served_call(running, client)
        print(f"{'call':22} {'bare ms':>9} {'served ms':>10} {'ratio':>6}", flush=True)
        for name in CALLS:
            alone, through, ratio = measured(name, bare, served)
            print(f"{name:22} {alone * 1e3:9.1f} {through * 1e3:10.1f} {ratio:6.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
