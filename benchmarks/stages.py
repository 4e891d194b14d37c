"""Measures the time of each processing stage per second of audio, on the bundled call.

    ./writecare bench stages

Processes the call three times with the whole system and prints the median of each stage. Also prints how long the
system took to start, and its peak memory.
"""

import asyncio
import statistics
import sys
from collections import defaultdict

from benchmarks.running_instance import bench
from cli.api_walkthrough import CallSource, walk
from cli.demo import SAMPLE

WALKS = 3


def main() -> int:
    with bench() as running:
        factors: dict[str, list[float]] = defaultdict(list)
        for _ in range(WALKS):
            walked = asyncio.run(walk(running.instance.address, running.tokens, CallSource.of(str(SAMPLE))))
            for timing in walked.timings:
                if timing.audio_seconds:
                    factors[timing.stage].append(timing.wall_seconds / timing.audio_seconds)
        print(f"{'stage':30} {'real-time factor':>16}")
        for stage, found in factors.items():
            print(f"{stage:30} {statistics.median(found):16.3f}")
        peak = running.instance.peak_memory_bytes() / 2**30
        print(f"ready in {running.instance.ready_seconds:.1f} s; {peak:.2f} GiB at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
