"""Zip verification and the effect-free pickle reader, against torch, zipfile and pickle themselves."""

import io
import pickle
import random
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape.errors import InputError
from landscape.reading import archives, pickles, torch_files
from landscape.reading.pickles import UnreadableError


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


STATE = {"weight": torch.arange(6.0).reshape(2, 3), "empty": torch.zeros(0), "count": torch.tensor(7)}
ARCHIVE = saved(STATE)


def refusal(read, *arguments):
    """The one-line message with which a call refuses its input, None when it accepts it."""
    try:
        read(*arguments)
    except (InputError, UnreadableError) as error:
        message = str(error)
        if "\n" in message:
            pytest.fail(f"more than one line: {message!r}")
        return message
    return None


def flipped(content, bit):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << (bit % 8)
    return bytes(damaged)


def test_entries_are_those_of_zipfile():
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as archive:
        expected = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert {name: bytes(data) for name, data in archives.entries(ARCHIVE, "x").items()} == expected


def test_every_single_flipped_bit_is_noticed():
    bits = range(8 * len(ARCHIVE))
    assert [bit for bit in bits if refusal(archives.entries, flipped(ARCHIVE, bit), "x") is None] == []


def rewritten(compression):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def without_checksums():
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        return saved(STATE)
    finally:
        torch.serialization.set_crc32_options(before)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ARCHIVE + b"\0", "end"),
        (b"\0" + ARCHIVE, "damaged"),
        (ARCHIVE[:40] + b"\0" + ARCHIVE[40:], "damaged"),
        (ARCHIVE[:97], "end is missing"),
        (rewritten(zipfile.ZIP_STORED), "damaged"),
        (rewritten(zipfile.ZIP_DEFLATED), "damaged"),
        (without_checksums(), "without checksums"),
    ],
    ids=["appended", "prepended", "inserted", "stub", "rezipped", "deflated", "no checksums"],
)
def test_other_archives_are_refused_in_one_line(content, words):
    assert words in refusal(archives.entries, content, "weights.pt")


@pytest.mark.parametrize("alignment", [64, 4096])
def test_any_storage_alignment_is_accepted(alignment):
    from torch.utils.serialization import config

    before = config.save.storage_alignment
    config.save.storage_alignment = alignment
    try:
        content = saved(STATE)
    finally:
        config.save.storage_alignment = before
    loaded = torch_files.load(content, "x")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in STATE.items())


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(value=PLAIN, protocol=st.sampled_from([3, 4, 5]))
def test_plain_pickles_read_as_pickle_reads_them(value, protocol):
    assert pickles.read(io.BytesIO(pickle.dumps(value, protocol))) == value


@given(text=st.text(max_size=30), number=st.integers(), protocol=st.sampled_from([0, 1, 2]))
def test_old_protocols_too(text, number, protocol):
    value = {"a": [text, (number, 2.5, None, True)]}
    assert pickles.read(io.BytesIO(pickle.dumps(value, protocol))) == value


class Harmful:
    """Unpickling it writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("protocol", range(6))
def test_calls_are_written_down_and_not_made(tmp_path, protocol):
    target = tmp_path / "made"
    read = pickles.read(io.BytesIO(pickle.dumps(["x", Harmful(target)], protocol)))
    assert read[1].arguments == (str(target), "w")
    assert read[1].name.endswith(".open")
    assert not target.exists()


@given(data=st.binary(max_size=60))
def test_noise_is_unreadable_or_harmless(data):
    refusal(lambda: list(pickles.walk(pickles.read(io.BytesIO(data)))))


def test_a_nest_of_shared_tuples_is_walked_once():
    nest = ()
    for _ in range(200):
        nest = (nest, nest)
    assert sum(1 for _ in pickles.walk(pickles.read(io.BytesIO(pickle.dumps(nest))))) == 201


def test_a_nest_of_shared_tuples_as_key_is_refused():
    """Hashing it would take 2^60 steps; pickle cannot write it, so the opcodes are put together by hand."""
    content = b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s."
    with pytest.raises(UnreadableError, match="key"):
        pickles.read(io.BytesIO(content))


NEST = b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (k, k, k + 1) for k in range(60))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02c__builtin__\nset\n](" + NEST + b"e\x85R.",
        b"\x80\x02ccollections\nCounter\n](" + NEST + b"e\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n](](" + NEST + b"K\x01ee\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n)R(" + NEST + b"K\x01u.",
        b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
        b"\x80\x02ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
        b"\x80\x02cnumpy\ndtype\nX\x0c\x00\x00\x00V99999999999\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00base64\x86R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nNR.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch._utils\n_rebuild_parameter\nNR.",
    ],
)
def test_calls_that_weights_only_would_make_at_any_price_are_refused(content):
    """Allowed names with arguments that take for ever or ask for gigabytes, or that make no sense."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    writer.write_record("data.pkl", content, len(content))
    writer.write_end_of_file()
    assert refusal(torch_files.load, buffer.getvalue(), "x") is not None


def test_numpy_numbers_beside_the_weights_are_read():
    numbers = {"a": np.float64(1.5), "b": np.int32(3), "c": np.bool_(True)}
    assert torch_files.load(saved(numbers), "x") == numbers


def test_another_pickle_protocol_is_named():
    assert "pickle_protocol" in refusal(torch_files.load, saved(STATE, pickle_protocol=4), "x")


def legacy(value):
    return saved(value, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [saved, legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "value",
    [
        STATE,
        OrderedDict(a=torch.ones(2, 3).T, b=torch.nn.Parameter(torch.ones(4))),
        {"half": torch.ones(3, dtype=torch.float16), "brain": torch.ones(3, dtype=torch.bfloat16)},
        {"view": torch.arange(10.0)[2:8:2], "same": torch.arange(10.0)[2:]},
        {"step": 3, "name": "x", "scale": 0.5, "list": [1, (2, 3)], "flag": True, "none": None, "c": 1 + 2j},
    ],
    ids=["plain", "transposed", "half", "views", "scalars"],
)
def test_load_gives_what_torch_load_gives(write, value):
    content = write(value)
    expected = torch.load(io.BytesIO(content), weights_only=True)
    found = torch_files.load(content, "x")
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        same = torch.equal(found[name], tensor) if isinstance(tensor, torch.Tensor) else found[name] == tensor
        assert same


def test_tied_weights_stay_tied():
    shared = torch.ones(5)
    found = torch_files.load(saved({"a": shared, "b": shared}), "x")
    assert found["a"].data_ptr() == found["b"].data_ptr()


def replaced(content, old, new):
    """A pickle with one piece exchanged, in a zip whose checksums are right again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        read = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert read["data.pkl"].count(old) == 1
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for name, data in read.items():
        if name not in ("version", ".data/serialization_id", ".format_version", ".storage_alignment"):
            data = data.replace(old, new)
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return buffer.getvalue()


EIGHT = saved({"w": torch.arange(8.0)})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x08tq", b"J\xff\xff\xff\x7ftq"),  # the storage claims 2³¹ − 1 elements
        (b"K\x08\x85", b"J\xff\xff\xff\x7f\x85"),  # the tensor does
        (b"K\x01\x85", b"K\x09\x85"),  # its stride leads out of the storage
        (b"QK\x00", b"QK\x05"),  # its offset does
    ],
    ids=["storage", "shape", "stride", "offset"],
)
def test_tensors_outside_their_storage_are_refused(old, new):
    content = replaced(EIGHT, old, new)
    archives.entries(content, "x")
    with pytest.raises(InputError, match="damaged"):
        torch_files.load(content, "x")


def test_expanded_tensors_are_refused():
    with pytest.raises(InputError, match="said to lie in 1 elements"):
        torch_files.load(saved({"w": torch.zeros(1).expand(10**11)}), "x")


@pytest.mark.parametrize("write", [saved, legacy], ids=["zip", "legacy"])
def test_sharing_has_a_limit(write):
    many = {f"w{k}": torch.zeros(100_000).set_(BASE) for k in range(400)}
    with pytest.raises(InputError, match="claim"):
        torch_files.load(write(many), "x")


BASE = torch.zeros(100_000)


def test_damage_to_legacy_files_is_one_line_and_bounded():
    """Legacy files have no checksum: a flip may go unnoticed, but never ends in anything but an InputError."""
    content = legacy({"state_dict": {f"layer{k}.weight": torch.ones(3, k + 1) for k in range(5)}, "epoch": 3})
    rng = random.Random(0)
    bits = rng.sample(range(8 * len(content)), 600)
    refused = [refusal(torch_files.load, flipped(content, bit), "x") is not None for bit in bits]
    assert any(refused)
    assert not all(refused)
    for length in range(0, len(content), 7):
        with pytest.raises(InputError):
            torch_files.load(content[:length], "x")
