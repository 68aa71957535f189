import errno
import os

import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors

from landscape import files
from landscape.errors import InputError

ARRAYS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([True, False]), "empty": np.zeros((0, 4))}
CONTENT = files.seal({"kind": "trial", "note": "ε ≤ 1e-3"}, ARRAYS)


def test_a_sealed_file_is_a_safetensors_file_that_gives_back_what_went_in():
    sealed = files.unseal(CONTENT, "x")
    assert sealed.record == {"kind": "trial", "note": "ε ≤ 1e-3"}
    for name, array in load_safetensors(CONTENT).items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        np.testing.assert_array_equal(array, sealed.arrays[name])


def test_the_same_contents_give_the_same_bytes():
    assert files.seal({"note": "ε ≤ 1e-3", "kind": "trial"}, dict(reversed(ARRAYS.items()))) == CONTENT


def test_every_flipped_bit_is_noticed():
    for bit in range(8 * len(CONTENT)):
        damaged = bytearray(CONTENT)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InputError):
            files.unseal(bytes(damaged), "x")


def test_every_truncation_that_leaves_a_trace_of_the_seal_is_noticed():
    for length in range(40, len(CONTENT)):
        with pytest.raises(InputError):
            files.unseal(CONTENT[:length], "x")


def test_other_files_are_not_ours():
    assert files.unseal(b"PK\x03\x04 something else", "x") is None


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, failing):
    path = tmp_path / "result"
    files.write_atomically(path, b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(InputError, match="No space left"):
        files.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_files_and_folders_have_their_own_sentence(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        files.read_bytes(tmp_path / "nothing")
    with pytest.raises(InputError, match="is a folder"):
        files.read_bytes(tmp_path)
