"""Compares speech recognition with that of whisperx, on the same weights, in alternating runs.

    ./writecare bench transcription

The baseline is `whisperx.load_model` and `transcribe` with their defaults (its voice detector, batches of 8, float32 on
a CPU). Ours is `models/speech/transcription.py` with the shipped settings, including word times. whisperx's word times
need an alignment model that no package supplies, so its side runs without them. A ratio under 1 means that ours is
faster.
"""

import sys

from benchmarks.speech_material import WhisperX, our_transcriber, read_setup, report, time_in_turns, word_error_rate


def main() -> int:
    setup = read_setup()
    transcriber, whisperx = our_transcriber(setup), WhisperX(setup.models)
    texts: dict[str, list[str]] = {}

    def ours() -> None:
        found = [transcriber.transcribe(call.samples) for call in setup.calls]
        texts["ours"] = [" ".join(word.word for word in one.words) for one in found]

    def theirs() -> None:
        texts["theirs"] = [whisperx.text(call.samples) for call in setup.calls]

    taken = time_in_turns(setup.pairs, ours, theirs)
    rates = {name: word_error_rate(setup.calls, found) for name, found in texts.items()}
    accuracy = f"word error rate {rates['ours']:.1f} %, baseline {rates['theirs']:.1f} %"
    report("transcription against whisperx", taken, setup.seconds, accuracy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
