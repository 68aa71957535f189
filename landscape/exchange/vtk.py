"""VTK's XML files (https://docs.vtk.org/en/latest/design_documents/VTKFileFormats.html), written without VTK.

Numbers are binary in the machine's own byte order, base64 behind a 64-bit count of bytes; texts are character codes.
"""

import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import quoteattr

import numpy as np

Values = np.ndarray | Sequence[str]
"""Of an array of points: (n,) numbers or (n, components), or n texts."""

_TYPES = {"float64": "Float64", "int64": "Int64", "uint8": "UInt8"}


def structured_grid(shape: Sequence[int], points: np.ndarray, data: Mapping[str, Values], scalars: str) -> bytes:
    """A `.vts` file: a curvilinear grid. points (n, 3), data: in VTK's order, in which the first axis runs fastest.

    shape: number of points along each of at most three axes. scalars: the array that is shown first.
    """
    extent = " ".join(f"0 {count - 1}" for count in (*shape, 1, 1)[:3])
    body = f"<Piece Extent={quoteattr(extent)}>{_point_data(data, scalars)}{_points(points)}</Piece>"
    return _file("StructuredGrid", f" WholeExtent={quoteattr(extent)}", body)


def poly_data(
    points: np.ndarray, lines: Sequence[Sequence[int]], spots: Sequence[int], data: Mapping[str, Values],
    scalars: str,
) -> bytes:  # fmt: skip
    """A `.vtp` file: polylines through points (n, 3), and single points, both by their indices."""
    cells = _cells("Verts", [[spot] for spot in spots]) + _cells("Lines", lines)
    counts = f'NumberOfPoints="{len(points)}" NumberOfVerts="{len(spots)}" NumberOfLines="{len(lines)}"'
    return _file("PolyData", "", f"<Piece {counts}>{_point_data(data, scalars)}{_points(points)}{cells}</Piece>")


def _file(kind: str, attributes: str, body: str) -> bytes:
    order = "LittleEndian" if sys.byteorder == "little" else "BigEndian"
    head = f'<VTKFile type="{kind}" version="1.0" byte_order="{order}" header_type="UInt64">'
    return f'<?xml version="1.0"?>\n{head}<{kind}{attributes}>{body}</{kind}></VTKFile>\n'.encode()


def _point_data(data: Mapping[str, Values], scalars: str) -> str:
    arrays = "".join(_array(name, values) for name, values in data.items())
    return f"<PointData Scalars={quoteattr(scalars)}>{arrays}</PointData>"


def _points(points: np.ndarray) -> str:
    return f"<Points>{_array('Points', points)}</Points>"


def _cells(kind: str, cells: Sequence[Sequence[int]]) -> str:
    connectivity = np.array([index for cell in cells for index in cell], np.int64)
    offsets = np.cumsum([len(cell) for cell in cells], dtype=np.int64)
    return f"<{kind}>{_array('connectivity', connectivity)}{_array('offsets', offsets)}</{kind}>"


def _array(name: str, values: Values) -> str:
    if not isinstance(values, np.ndarray):
        codes = " ".join(str(code) for text in values for code in (*text.encode(), 0))
        return _element(name, "String", 'format="ascii"', codes)
    components = f'NumberOfComponents="{values.shape[1]}" ' if values.ndim > 1 else ""
    content = np.ascontiguousarray(values).tobytes()
    coded = b64encode(len(content).to_bytes(8, sys.byteorder) + content).decode()
    return _element(name, _TYPES[values.dtype.name], f'{components}format="binary"', coded)


def _element(name: str, kind: str, attributes: str, content: str) -> str:
    return f'<DataArray type="{kind}" Name={quoteattr(name)} {attributes}>{content}</DataArray>\n'
