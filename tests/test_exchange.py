"""Files of other programs: written as their own code writes them, read back as they read them, refused when hostile."""

import base64
import dataclasses
import io
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from commands import refused, run

from landscape.errors import InputError
from landscape.exchange import landscaper, loss_landscape, paraview
from landscape.results import SurfaceResult, load, save
from landscape.spec import AxesSpec

NONE = np.zeros(0)


def height(x, y):
    return 3 + x - 10 * y + x * y


def surface(shape=(5, 7), **changes) -> SurfaceResult:
    """A plane, line or volume with a NaN, an infinity, a cell not done and two eigenvalues."""
    axes = [np.linspace(-1 - k, 1, count) for k, count in enumerate(shape)]
    x, y, z = (*axes, NONE, NONE)[:3]
    loss = 0.5 + sum((k + 1) * place**2 for k, place in enumerate(np.meshgrid(*axes, indexing="ij")))
    done = np.ones(shape, bool)
    done.flat[-1], loss.flat[1], loss.flat[4], loss.flat[-1] = False, np.nan, np.inf, np.nan
    result = SurfaceResult(
        spec=AxesSpec(axes=("random",) * len(shape), points=shape), x=x, y=y, z=z, train_loss=loss,
        train_accuracy=1 / (1 + loss), test_loss=2 * loss, test_accuracy=1 / (2 + loss), labels=("a <&> é",),
        marks=np.zeros((1, len(shape))), complete=False, evaluations=1, done=done,
        extra_names=("largest eigenvalue", "smallest eigenvalue"), extra=np.stack([loss - 1, -loss], axis=-1),
        trajectory=np.linspace(-0.9, 0, 4)[:, None] * np.ones(len(shape)), trajectory_labels=("0", "1", "2", "3"),
        explained=np.linspace(0.6, 0.2, len(shape)),
    )  # fmt: skip
    return dataclasses.replace(result, **changes)


def crunched(path: Path, x, y, values=("train_loss",), cells=None, **more) -> Path:
    """A file filled as the loops of loss-landscape fill it: raveled meshgrid indices into arrays of shape (X, Y)."""
    mesh_x, mesh_y = np.meshgrid(x, y)
    with h5py.File(path, "w") as file:
        file["xcoordinates"], file["ycoordinates"] = x, y
        for name in values:
            losses = -np.ones((len(x), len(y)))
            for k in range(losses.size) if cells is None else cells:
                losses.ravel()[k] = height(mesh_x.ravel()[k], mesh_y.ravel()[k])
            file[name] = losses
        for name, array in more.items():
            file[name] = array
    return path


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5)], ids=str)
def test_values_stand_where_loss_landscape_evaluated_them(tmp_path, shape):
    x, y = np.linspace(-1, 2, shape[0]), np.linspace(10, 30, shape[1])
    found = loss_landscape.read([crunched(tmp_path / "s.h5", x, y, ("train_loss", "train_acc"))])
    X, Y = np.meshgrid(x, y, indexing="ij")
    np.testing.assert_allclose(found.train_loss, height(X, Y))
    np.testing.assert_allclose(found.train_accuracy, height(X, Y) / 100)
    assert found.complete
    assert found.quantities == ("train loss", "train accuracy")


def test_square_grids_are_written_as_its_plots_draw_them(tmp_path):
    """plot_2D.py takes the stored array for the values on numpy.meshgrid(x, y)."""
    axis = np.linspace(-1, 1, 6)
    X, Y = np.meshgrid(axis, axis, indexing="ij")
    result = surface((6, 6), y=axis, train_loss=height(X, Y), done=np.ones((6, 6), bool), complete=True)
    (tmp_path / "s.h5").write_bytes(loss_landscape.encode(result))
    with h5py.File(tmp_path / "s.h5") as file:
        mesh = np.meshgrid(file["xcoordinates"][:], file["ycoordinates"][:])
        np.testing.assert_allclose(file["train_loss"][:], height(*mesh))
        assert file["train_acc"][:] == pytest.approx(100 * result.train_accuracy.T, nan_ok=True)
        assert sorted(file) == sorted(
            ["xcoordinates", "ycoordinates", "train_loss", "train_acc", "test_loss", "test_acc", "max_eig", "min_eig",
             "proj_xcoord", "proj_ycoord", "explained_variance_ratio_"]
        )  # fmt: skip


@pytest.mark.parametrize("shape", [(5, 7), (9,)], ids=str)
def test_export_and_import_give_equal_arrays(tmp_path, shape):
    result = surface(shape)
    (tmp_path / "s.h5").write_bytes(loss_landscape.encode(result))
    back = loss_landscape.read([tmp_path / "s.h5"])
    for name in ("x", "y", "train_loss", "test_loss", "done", "extra", "trajectory", "explained", "marks"):
        np.testing.assert_array_equal(getattr(back, name), getattr(result, name), err_msg=name)
    for name in ("train_accuracy", "test_accuracy"):  # percent and back: one rounding each way
        np.testing.assert_allclose(getattr(back, name), getattr(result, name), rtol=3e-16)
    assert (back.complete, back.extra_names) == (False, result.extra_names)
    assert loss_landscape.encode(result) == loss_landscape.encode(result)


def test_cells_not_computed_are_not_done(tmp_path):
    x, y = np.linspace(0, 1, 3), np.linspace(0, 1, 4)
    maximum, minimum = -np.ones((3, 4)), np.ones((3, 4))
    maximum[0, :2], minimum[0, :2] = (-1.0, 5.0), (-7.0, 1.0)  # values that look like a mark, beside one that does not
    path = crunched(tmp_path / "s.h5", x, y, cells=range(6), max_eig=maximum, min_eig=minimum)
    found = loss_landscape.read([path])
    assert found.done.T.ravel().tolist() == [True] * 6 + [False] * 6
    assert np.isnan(found.train_loss[~found.done]).all()
    assert np.isfinite(found.train_loss[found.done]).all()
    assert not found.complete
    assert found.extra_names == ("largest eigenvalue", "smallest eigenvalue")
    known = np.isfinite(found.extra).all(axis=-1)
    assert known.sum() == 2
    np.testing.assert_array_equal(found.extra[known], [[-1, -7], [5, 1]])
    with_errors = crunched(tmp_path / "t.h5", x, y, train_acc=np.full((3, 4), 50.0))
    with h5py.File(with_errors, "r+") as file:
        file["train_loss"][0, 0] = -1  # a loss of −1 that was computed, as its accuracy says
    assert loss_landscape.read([with_errors]).complete


def test_eigenvalues_trajectory_and_directions_may_lie_in_files_of_their_own(tmp_path):
    x, y = np.linspace(-1, 1, 3), np.linspace(-1, 1, 4)
    name = "model_weights_xignore=biasbn_xnorm=filter_yignore=biasbn_ynorm=filter.h5"
    paths = [crunched(tmp_path / "s.h5", x, y, dir_file=name)]
    paths.append(crunched(tmp_path / "eig.h5", x, y, (), max_eig=np.full((3, 4), 2.0), min_eig=np.full((3, 4), -3.0)))
    for file, arrays in (
        ("proj.h5", {"proj_xcoord": [0.0, 0.5, 1.0], "proj_ycoord": [3.0, 2.0, 0.0]}),
        ("directions.h5", {"explained_variance_ratio_": [0.7, 0.2]}),
    ):
        with h5py.File(tmp_path / file, "w") as opened:
            for key, values in arrays.items():
                opened[key] = values
        paths.append(tmp_path / file)
    found = loss_landscape.read(paths)
    np.testing.assert_array_equal(found.trajectory, [[0, 3], [0.5, 2], [1, 0]])
    np.testing.assert_array_equal(found.explained, [0.7, 0.2])
    assert (found.grid("smallest eigenvalue") == -3).all()
    assert found.provenance["dir_file"] == name
    assert isinstance(found.spec, AxesSpec)
    assert found.spec.axes == ("component:1", "component:2")
    assert (found.spec.normalisation, found.spec.biases) == ("filter", "zero")
    random = loss_landscape.read(paths[:1]).spec
    assert isinstance(random, AxesSpec)
    assert random.axes == ("random", "random")
    other = crunched(tmp_path / "other.h5", 2 * x, y, (), max_eig=np.ones((3, 4)))
    with pytest.raises(InputError, match="its xcoordinates differs"):
        loss_landscape.read([paths[0], other])


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_landscaper_files_are_read_in_the_order_of_its_loop(tmp_path, dimension):
    axes = [np.linspace(-1, 1, 5)] * dimension
    loss = np.zeros((5,) * dimension)
    for index in np.ndindex(loss.shape):
        loss[index] = sum((k + 1) * axes[k][i] for k, i in enumerate(index))
    np.savez(tmp_path / "l.npz", loss=loss, coordinates=axes)
    found = landscaper.read(tmp_path / "l.npz")
    np.testing.assert_array_equal(found.train_loss, loss)
    assert found.shape == (5,) * dimension
    assert found.provenance["program"] == "Landscaper"


def hostile_h5(path: Path) -> dict[str, Path]:
    """Files that are damaged or would do harm if they were believed."""
    x, y = np.linspace(0, 1, 3), np.linspace(0, 1, 4)
    good = crunched(path / "good.h5", x, y)
    made = {name: path / f"{name}.h5" for name in
            ("text", "cut", "no losses", "shapes", "words", "order", "giant", "link", "group", "path")}  # fmt: skip
    made["text"].write_text("not a surface")
    made["cut"].write_bytes(good.read_bytes()[:900])
    plain = {"xcoordinates": x, "ycoordinates": y}
    for name, arrays in {
        "no losses": plain,
        "shapes": {**plain, "train_loss": np.ones((2, 6))},
        "words": {**plain, "train_loss": np.array([b"a", b"b"])},
        "order": {"xcoordinates": x[::-1], "ycoordinates": y, "train_loss": np.ones((3, 4))},
        "path": {**plain, "train_loss": np.ones((3, 4)), "proj_xcoord": np.ones(3)},
    }.items():
        with h5py.File(made[name], "w") as file:
            for key, values in arrays.items():
                file[key] = values
    with h5py.File(made["giant"], "w") as file:
        file["xcoordinates"], file["ycoordinates"] = x, y
        file.create_dataset("train_loss", shape=(10**6, 10**6), chunks=(1, 1000), dtype="f8")
    with h5py.File(made["link"], "w") as file:
        file["xcoordinates"], file["ycoordinates"] = x, y
        file["train_loss"] = h5py.ExternalLink(str(good), "train_loss")
    with h5py.File(made["group"], "w") as file:
        file["xcoordinates"] = x
        file.create_group("train_loss")
    return made


def test_hostile_surface_files_are_refused_in_one_line(tmp_path):
    words = {
        "text": "cannot be read as HDF5", "cut": "cannot be read as HDF5", "no losses": "no dataset train_loss",
        "shapes": r"train_loss has shape \(2, 6\)", "words": "does not hold numbers", "order": "increasing numbers",
        "giant": "claims 1000000000000 entries", "link": "not an array in this file",
        "group": "not an array in this file", "path": "lists of one length",
    }  # fmt: skip
    for name, path in hostile_h5(tmp_path).items():
        with pytest.raises(InputError, match=words[name]) as caught:
            loss_landscape.read([path])
        assert "\n" not in str(caught.value), name


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def claiming(path: Path, shape: tuple[int, ...]) -> Path:
    """An archive whose `loss` claims a shape and holds nothing."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("loss.npy", head.getvalue())
    return path


def test_hostile_archives_are_refused_in_one_line(tmp_path):
    axes, ragged = np.ones((2, 3)).cumsum(axis=1), np.array([np.arange(3.0), np.arange(4.0)], dtype=object)
    (tmp_path / "text.npz").write_text("not an archive")
    cases = {
        tmp_path / "text.npz": "not a zip file",
        npz(tmp_path / "pickled.npz", loss=np.ones((3, 4)), coordinates=ragged): "coordinates is object",
        npz(tmp_path / "lacking.npz", loss=np.ones((3, 3))): "coordinates",
        npz(tmp_path / "shapes.npz", loss=np.ones((3, 4)), coordinates=axes): "do not fit each other",
        npz(tmp_path / "four.npz", loss=np.ones((2,) * 4), coordinates=np.arange(8.0).reshape(4, 2)): "three axes",
        npz(tmp_path / "words.npz", loss=np.array(["a"] * 3), coordinates=axes[:1]): "loss is <U1",
        npz(tmp_path / "order.npz", loss=np.ones((3, 3)), coordinates=-axes): "increasing numbers",
        claiming(tmp_path / "giant.npz", (10**6, 10**6)): "not at most",
        claiming(tmp_path / "cut.npz", (3, 3)): "cannot read|EOF|Failed to read",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            landscaper.read(path)
        assert "\n" not in str(caught.value)


def decoded(document: bytes) -> dict[str, np.ndarray | list[str]]:
    """All arrays of a VTK XML file by name, decoded as the format's documentation says."""
    kinds, found = {"Float64": "f8", "Int64": "i8", "UInt8": "u1"}, {}
    root = ElementTree.fromstring(document)
    assert root.attrib["header_type"] == "UInt64"
    for parent in root.iter():
        for array in parent.findall("DataArray"):
            name = array.attrib["Name"] if parent.tag != "Verts" else "vert " + array.attrib["Name"]
            if array.attrib["type"] == "String":
                found[name] = bytes(map(int, (array.text or "").split())).decode().split("\0")[:-1]
                continue
            content = base64.b64decode(array.text or "")
            assert int.from_bytes(content[:8], sys.byteorder) == len(content) - 8
            values = np.frombuffer(content[8:], kinds[array.attrib["type"]])
            components = int(array.attrib.get("NumberOfComponents", 1))
            found[name] = values.reshape(-1, components) if components > 1 else values
    return found


def test_a_plane_becomes_a_surface_of_log_heights():
    result = surface((5, 7))
    document = paraview.grid(result, "train loss")
    assert b'WholeExtent="0 4 0 6 0 0"' in document
    found = decoded(document)
    for j, y in enumerate(result.y):
        for i, x in enumerate(result.x):
            k = i + 5 * j
            np.testing.assert_array_equal(found["Points"][k, :2], [x, y])
            np.testing.assert_array_equal(found["train loss"][k], result.train_loss[i, j])
            np.testing.assert_array_equal(found["smallest eigenvalue"][k], result.extra[i, j, 1])
            seen = np.isfinite(result.train_loss[i, j])
            assert found["vtkGhostType"][k] == (0 if seen else 2)
            assert found["done"][k] == result.done[i, j]
            lowest = np.log10(result.train_loss[np.isfinite(result.train_loss)].min())
            assert found["Points"][k, 2] == pytest.approx(np.log10(result.train_loss[i, j]) if seen else lowest)


def test_a_volume_keeps_its_coordinates_and_a_line_becomes_a_curve():
    volume = surface((2, 3, 4), extra_names=(), extra=NONE)
    document = paraview.grid(volume, "test loss")
    found = decoded(document)
    assert b'WholeExtent="0 1 0 2 0 3"' in document
    np.testing.assert_array_equal(found["Points"][1 + 2 * (2 + 3 * 1)], [volume.x[1], volume.y[2], volume.z[1]])
    assert found["test loss"][1 + 2 * (2 + 3 * 1)] == volume.test_loss[1, 2, 1]
    line = surface((9,), train_loss=np.linspace(-1, 1, 9))
    found = decoded(paraview.grid(line, "train loss"))
    np.testing.assert_array_equal(found["Points"], np.stack([line.x, np.zeros(9), line.train_loss], axis=1))


def test_trajectory_and_checkpoints_lie_on_the_surface():
    x, y = np.linspace(-1, 1, 5), np.linspace(-2, 2, 9)
    loss = np.add.outer(2 * x, -3 * y)  # linear: interpolation is exact
    path = np.array([[-0.9, 1.7], [0.2, 0.3], [0.0, 0.0], [5.0, 0.0]])
    result = surface((5, 9), y=y, train_loss=loss, done=np.ones((5, 9), bool), trajectory=path)
    found = decoded(paraview.lines(result, "train loss"))
    np.testing.assert_allclose(found["Points"][:3], np.c_[path[:3], 2 * path[:3, 0] - 3 * path[:3, 1]], atol=1e-12)
    assert found["on surface"].tolist() == [1, 1, 1, 0, 1]
    assert found["Points"][3].tolist() == [5, 0, loss.min()]
    assert found["connectivity"].tolist() == [0, 1, 2, 3]
    assert found["vert connectivity"].tolist() == [4]
    assert found["checkpoint"].tolist() == [0, 1, 2, 3, 0]
    assert found["name"] == ["0", "1", "2", "3", "a <&> é"]


@pytest.mark.parametrize(
    ("draw", "changes", "words"),
    [
        (paraview.grid, {"train_loss": np.full((5, 7), np.nan)}, "finite nowhere"),
        (lambda r, q: paraview.grid(r, q, True), {"train_loss": np.zeros((5, 7))}, "not positive"),
        (paraview.lines, {"trajectory": NONE, "marks": np.zeros((0, 2)), "labels": ()}, "neither a trajectory"),
    ],
    ids=["nothing finite", "no logarithm", "no lines"],
)
def test_what_cannot_be_drawn_is_refused(draw, changes, words):
    with pytest.raises(InputError, match=words):
        draw(surface(**changes), "train loss")


def test_the_commands_export_and_import(tmp_path):
    save(surface(), tmp_path / "s.safetensors")
    for ending in (".h5", ".vts", ".vtp", ".csv"):
        run("export", tmp_path / "s.safetensors", "-o", tmp_path / f"s{ending}")
        assert (tmp_path / f"s{ending}").stat().st_size
        assert "add --overwrite" in refused("export", tmp_path / "s.safetensors", "-o", tmp_path / f"s{ending}")
    run("import", tmp_path / "s.h5", "-o", tmp_path / "back.safetensors")
    back = load(tmp_path / "back.safetensors")
    np.testing.assert_array_equal(back.train_loss, surface().train_loss)  # type: ignore[attr-defined]
    assert len(back.provenance["files_sha256"][0]) == 64
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[0].startswith("x,y,train loss,test loss,train accuracy,test accuracy,largest eigenvalue,smallest")
    assert len(lines) == 1 + 35
    assert lines[-1].endswith(",NO")
    np.savez(tmp_path / "l.npz", loss=np.eye(3), coordinates=[np.arange(3.0)] * 2)
    assert "3 × 3" in run("import", tmp_path / "l.npz", "-o", tmp_path / "l.safetensors").stdout


def test_the_commands_refuse_in_one_line(tmp_path):
    save(surface((3, 3, 3), extra_names=(), extra=NONE), tmp_path / "s.safetensors")
    s = tmp_path / "s.safetensors"
    assert "ends in .h5, .vts, .vtp, .csv" in refused("export", s, "-o", tmp_path / "s.stl")
    assert "one or two axes" in refused("export", s, "-o", tmp_path / "s.h5")
    assert "quantity = 'loss'" in refused("export", s, "-o", tmp_path / "s.vts", "--quantity", "loss")
    assert "ends in .h5, .npz" in refused("import", s, "-o", tmp_path / "t")
    assert "does not exist" in refused("import", tmp_path / "none.h5", "-o", tmp_path / "t")
    assert "one .npz file" in refused("import", tmp_path / "a.npz", tmp_path / "b.npz", "-o", tmp_path / "t")


def test_without_h5py_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "s.h5").write_bytes(b"")
    with pytest.raises(InputError, match=r"pip install 'landscape-sharpness\[h5\]'"):
        loss_landscape.read([tmp_path / "s.h5"])


def test_basins_are_measured_from_the_command_line(tmp_path):
    x = np.linspace(-1, 1, 21)
    loss = np.add.outer(x**2, x**2)
    scan = surface((21, 21), x=x, y=x, train_loss=loss, done=np.ones((21, 21), bool), complete=True)
    save(scan, tmp_path / "s.safetensors")
    shown = run("basin", tmp_path / "s.safetensors", "--increase", 0.25, "-o", tmp_path / "b.safetensors")
    area = load(tmp_path / "b.safetensors").volumes[0, 0]  # type: ignore[attr-defined]
    assert area == pytest.approx(np.pi / 4, rel=0.02)
    assert f"{area:.4g}" in shown.stdout
    assert len(load(tmp_path / "b.safetensors").provenance["surface_sha256"]) == 64
    table = run("table", tmp_path / "b.safetensors", "--format", "csv").stdout.splitlines()
    row = dict(zip(table[0].split(","), table[1].split(","), strict=True))
    assert float(row["volume"]) == area
    assert row["x up open"] == "no"
    assert "surface is needed" in refused("basin", tmp_path / "b.safetensors", "-o", tmp_path / "c.safetensors")
