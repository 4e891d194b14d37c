"""Measures what the check of a token costs: our whole check (signature, claims, actor) over the signature check only.

    ./writecare bench token_check

Same token, key and run. Our check and joserfc's signature check alternate, so that a busy machine slows both. Prints
the median ratio of the pairs; 1.00 means that our check adds nothing to the signature check.
"""

import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from joserfc import jws
from joserfc.jwk import KeySet

from comms.kernel.access.tokens import Issuer, Verifier
from comms.kernel.database import Actor

PAIRS = 41
CHECKS = 200


def microseconds(check: Callable[[], object]) -> float:
    """The time of one check, averaged over many."""
    started = time.perf_counter()
    for _ in range(CHECKS):
        check()
    return (time.perf_counter() - started) / CHECKS * 1e6


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="writecare-bench-") as folder:
        issuer = Issuer.open(Path(folder), "bench")
    keys = issuer.public_keys()
    verifier = Verifier(keys, "bench")
    bare_keys = KeySet.import_key_set(keys)  # type: ignore[arg-type]  # joserfc types a set closer than its parser
    actor = Actor(uuid.uuid4(), uuid.uuid4(), "care_worker", sign_in_id=uuid.uuid4())
    token = issuer.sign(actor, 3600)
    assert verifier.verify(token) == actor

    def bare() -> object:
        return jws.deserialize_compact(token, bare_keys, algorithms=["Ed25519"])

    def ours() -> object:
        return verifier.verify(token)

    microseconds(bare), microseconds(ours)  # warm-up
    pairs = []
    for turn in range(PAIRS):
        if turn % 2 == 0:
            alone = microseconds(bare)
            pairs.append((alone, microseconds(ours)))
        else:
            whole = microseconds(ours)
            pairs.append((microseconds(bare), whole))
    print(f"{'check':22} {'bare us':>9} {'ours us':>9} {'ratio':>6}")
    alone, whole = statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)
    print(f"{'token':22} {alone:9.1f} {whole:9.1f} {statistics.median(b / a for a, b in pairs):6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
