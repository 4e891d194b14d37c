"""Recognition against whisperx's own: words of a call, the same weights, in turn.

    ./writecare bench transcription

Yardstick: `whisperx.load_model` and `transcribe` with their defaults (its voice detector, batches of 8, float32 on a
processor). Ours is `models/speech/transcription.py` as it ships, words with times included; whisperx's times would
come from an alignment model that no package supplies, so they are left out of its side. A ratio under 1 is faster.
"""

import sys

from benchmarks.speech_material import WhisperX, in_turn, our_transcriber, report, setting, word_error_rate


def main() -> int:
    given = setting()
    transcriber, whisperx = our_transcriber(given), WhisperX(given.models)
    texts: dict[str, list[str]] = {}

    def ours() -> None:
        found = [transcriber.transcribe(call.samples) for call in given.calls]
        texts["ours"] = [" ".join(word.word for word in one.words) for one in found]

    def theirs() -> None:
        texts["theirs"] = [whisperx.text(call.samples) for call in given.calls]

    taken = in_turn(given.pairs, ours, theirs)
    rates = {name: word_error_rate(given.calls, found) for name, found in texts.items()}
    accuracy = f"word error rate {rates['ours']:.1f} %, of the yardstick {rates['theirs']:.1f} %"
    report("transcription against whisperx", taken, given.seconds, accuracy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
