"""Writes THIRD_PARTY.md: every distribution of the lock with its licence, from the installed metadata.

Run after each change of requirements.lock: `.venv/bin/python docs/third_party.py`. A test holds the two together.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADER = """# Third-party software

What `requirements.lock` installs beside our own code, with the licence that each distribution states. Made by
`docs/third_party.py`; what the GPL parts mean for redistribution is in docs/decisions/0005. Model weights that come
inside packages are in models/cards/.

The text models (`models/shipped/`) were trained on public data sets as well, which are not part of this project:
ACI-Bench and MTS-Dialog (Yim, Ben Abacha and others; CC BY 4.0), the AMI Meeting Corpus (University of Edinburgh and
partners; CC BY 4.0), QMSum (Zhong and others; MIT), e-mail intents (Microsoft; Apache-2.0) and GoEmotions (Google;
Apache-2.0, data CC BY 4.0). docs/decisions/0045 says how. Keep this notice with the weights.

| distribution | version | licence |
|---|---|---|
"""
_LONG = 80


def locked() -> list[tuple[str, str]]:
    """Names and versions as the lock pins them."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    found = (re.match(r"([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", line) for line in lines)
    return [(match[1], match[2]) for match in found if match]


def licence_of(name: str) -> str:
    """The licence as stated: SPDX expression, else the trove classifiers, else the text's first line."""
    stated = metadata.metadata(name)
    if "License-Expression" in stated:
        return stated["License-Expression"]
    classifiers = [c.rpartition(" :: ")[2] for c in stated.get_all("Classifier") or [] if c.startswith("License ::")]
    if classifiers:
        return ", ".join(classifiers)
    stated_text = stated["License"] if "License" in stated else ""  # noqa: SIM401 (the protocol has no get)
    text = (stated_text or _licence_file(name)).strip().splitlines()
    return text[0].strip()[:_LONG] if text else "see the distribution's own files"


def _licence_file(name: str) -> str:
    texts = [file for file in metadata.files(name) or () if re.match(r"(licen[cs]e|copying)", file.name, re.IGNORECASE)]
    return min(texts, key=lambda file: len(file.parts)).read_text() if texts else ""


def table() -> str:
    return HEADER + "".join(f"| {name} | {version} | {licence_of(name)} |\n" for name, version in locked())


if __name__ == "__main__":
    (ROOT / "THIRD_PARTY.md").write_text(table())
    sys.stderr.write(f"THIRD_PARTY.md: {len(locked())} distributions\n")
