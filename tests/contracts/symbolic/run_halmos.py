"""Halmos as it is released, but for its SHA-256: `run_halmos.py ARGUMENTS`.

Release 0.3.3 takes the length of what is hashed for bits where it counts bytes, and ends. Here what is known is hashed, and for the
rest there is a function of the right number of bits of which nothing is known.
"""

import hashlib
import sys

import z3
from halmos import sevm
from halmos.__main__ import main

PREFIX = "f_sha256_"
declare = sevm.Function


def sha256(length):
    """A function of so many bytes."""
    unknown = declare(f"{PREFIX}{length}", z3.BitVecSort(8 * length), z3.BitVecSort(256))

    def hashed(preimage):
        if not z3.is_bv_value(preimage):
            return unknown(preimage)
        digest = hashlib.sha256(preimage.as_long().to_bytes(length, "big")).digest()
        return z3.BitVecVal(int.from_bytes(digest, "big"), 256)

    return hashed


def function(name, *sorts):
    return sha256(int(name.removeprefix(PREFIX))) if name.startswith(PREFIX) else declare(name, *sorts)


sevm.Function = function
sys.exit(main())
