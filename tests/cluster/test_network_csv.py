"""A user's own network: read where it is right, refused by file, line and column where it is not."""

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torta_jax import cluster
from torta_jax.cluster.network_csv import LINK_COLUMNS, NODE_COLUMNS
from torta_jax.errors import InputError

NODES = "name,longitude,latitude\nA,0,0\nB,1,0\nC,1,1\n"
PLACED = "name,longitude,latitude,place,usd_per_kwh\nB,1,0,DE,\nC,1,1,DE,\n"
LINKS = "source,target\nA,B\nB,C\n"


def read(folder, nodes: str | bytes, links: str | bytes) -> cluster.Topology:
    paths = folder / "nodes.csv", folder / "links.csv"
    for path, content in zip(paths, (nodes, links), strict=True):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return cluster.from_csv(*paths)


def test_a_plain_network_gets_great_circles_and_ten_gbps(tmp_path):
    topology = read(tmp_path, NODES, LINKS)
    assert topology.nodes == ("A", "B", "C")
    np.testing.assert_allclose(topology.distance_km, 2 * np.pi * 6371 / 360, rtol=1e-12)
    assert (topology.bandwidth_gbps == 10).all()
    assert np.isnan(topology.usd_per_kwh).all()
    assert cluster.build(topology).num_regions == 3


def test_a_full_network_keeps_what_it_says(tmp_path):
    nodes = "name,x_km,y_km,place,usd_per_kwh\n A ,0,0,US-CA,\nB,3,4,DE,0.5\nC,3,0,,\n"
    links = "source,target,distance_km,bandwidth_gbps\nA,B,,40\n\nC,B,7.5,\n"
    topology = read(tmp_path, "\ufeff" + nodes, links.replace("\n", "\r\n"))
    assert topology.planar
    np.testing.assert_array_equal(topology.distance_km, [5, 7.5])
    np.testing.assert_array_equal(topology.bandwidth_gbps, [40, 10])
    np.testing.assert_array_equal(topology.usd_per_kwh, [0.2391, 0.5, np.nan])
    assert topology.places == ("US-CA", "DE", "")


@pytest.mark.parametrize(
    ("nodes", "links", "said"),
    [
        (NODES + "A,2,2\n", LINKS, "nodes.csv, line 5, column 'name': 'A' appears twice"),
        (NODES + "D,181,2\n", LINKS, "nodes.csv, line 5, column 'longitude': '181' is not .* -180 to 180"),
        (NODES + "D,1,nan\n", LINKS, "line 5, column 'latitude': 'nan' is not a number from -90 to 90"),
        (NODES + "D,1\n", LINKS, "nodes.csv, line 5: 2 cells, the header has 3"),
        (NODES + ",1,1\n", LINKS, "line 5, column 'name': empty"),
        (NODES + "D,1,\n", LINKS, "line 5, column 'latitude': empty"),
        (NODES + "D,2,2\n", LINKS, "links.csv: .*disconnected.*'A' to 'D'"),
        ("name,longitude\nA,1\n", LINKS, "nodes.csv: missing column latitude"),
        ("name,longitude,latitud\nA,1,1\n", LINKS, "line 1: .*'latitud'; did you mean 'latitude'"),
        ("name,name,latitude\nA,1,1\n", LINKS, "'name' appears twice"),
        ("name,x_km,y_km,latitude\nA,1,1,1\nB,2,2,2\n", LINKS, "not both"),
        ("name,longitude,latitude\n", LINKS, "nodes.csv: no rows"),
        ("name,longitude,latitude\nA,0,0\n", LINKS, "at least 2"),
        ("", LINKS, "nodes.csv: empty file"),
        (b"\x89PNG\r\n\x1a\n\xff", LINKS, "nodes.csv, line 1: not UTF-8 text"),
        (b"name\0,longitude", LINKS, "nodes.csv: a binary file"),
        (PLACED + "A,0,0,US-CAL,\n", LINKS, "line 4, column 'place'.*did you mean 'US-CA'"),
        (PLACED + "A,0,0,,-1\n", LINKS, "line 4, column 'usd_per_kwh': '-1' is not a number from 0.0001"),
        ("name,longitude,latitude\nA,0,0\nB,0,0\n", "source,target\nA,B\n", "line 2: regions 0 km apart"),
        (NODES, "", "links.csv: empty file"),
        (NODES, "source,target\n", "links.csv: no rows"),
        (NODES, "source\nA\n", "links.csv: missing column target"),
        (NODES, LINKS + "A,A\n", "links.csv, line 4: a link from 'A' to itself"),
        (NODES, LINKS + "B,A\n", "links.csv, line 4: the link 'A', 'B' appears twice"),
        (NODES, LINKS + "A,Z\n", "links.csv, line 4, column 'target': unknown region 'Z'"),
        (NODES, 'source,target\nA,"B\n', "not CSV"),
        (NODES, "source,target,distance_km\nA,B,0\n", "line 2, column 'distance_km': '0' .* from 0.001"),
        (NODES, "source,target,distance_km\nA,B,inf\n", "'inf' is not a number"),
        (NODES, "source,target,bandwidth_gbps\nA,B,ten\n", "column 'bandwidth_gbps': 'ten' is not a number"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_file_line_and_column(tmp_path, nodes, links, said):
    with pytest.raises(InputError, match=said):
        read(tmp_path, nodes, links)


@pytest.mark.parametrize("path", ["absent.csv", ".", "zero\0byte", "x" * 5000])
def test_a_file_that_cannot_be_read_is_named(tmp_path, path):
    with pytest.raises(InputError, match="cannot be read"):
        cluster.from_csv(tmp_path / path, tmp_path / path)


def reads_or_explains(nodes: bytes, links: bytes) -> None:
    """Either a whole network or one InputError that names a file, nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            topology = read(Path(folder), nodes, links)
        except InputError as error:
            message = str(error)
        else:
            message = ""
            assert np.isfinite(cluster.latency_s(topology)).all()
            assert np.isfinite(cluster.price_usd_per_kwh(topology)).all()
        assert not message or ".csv" in message


def table(header, rows) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode("utf-8", "surrogatepass")


COLUMNS = (*NODE_COLUMNS, *LINK_COLUMNS)
NUMBERS = ("0", "1", "-1", "2.5", "nan", "inf", "-inf", "1e999", "1e-300", "٣", "0x1", "1_0", "")
words = st.sampled_from(["A", "B", "C", "a b", "", " ", "US-CA", "DE", "XX"])
numbers = st.sampled_from(NUMBERS)
cells = st.one_of(words, numbers, st.text(max_size=5))
headers = st.lists(st.one_of(st.sampled_from(COLUMNS), st.text(max_size=4)), max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)), st.booleans())
def test_any_bytes_in_place_of_a_file_are_read_or_explained(content, as_nodes):
    reads_or_explains(*((content, LINKS.encode()) if as_nodes else (NODES.encode(), content)))


@settings(max_examples=200, deadline=None)
@given(headers, st.lists(st.lists(cells, max_size=6), max_size=4))
def test_any_header_and_cells_are_read_or_explained(header, rows):
    reads_or_explains(table(header, rows), table(header, rows))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(words, numbers, numbers, words, numbers), min_size=1, max_size=4),
    st.lists(st.tuples(words, words, numbers, numbers), min_size=1, max_size=4),
    st.booleans(),
)
def test_nearly_right_tables_are_read_or_explained(nodes, links, planar):
    place = ("x_km", "y_km") if planar else ("longitude", "latitude")
    reads_or_explains(
        table(("name", *place, "place", "usd_per_kwh"), nodes),
        table(("source", "target", "distance_km", "bandwidth_gbps"), links),
    )


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_right_table_is_read_as_it_stands(data):
    size = data.draw(st.integers(2, 6))
    lon = st.floats(-180, 180)
    lat = st.floats(-90, 90)
    nodes = [(f"n{i}", data.draw(lon), data.draw(lat)) for i in range(size)]
    km = st.floats(0.001, 1e5)
    links = [(f"n{data.draw(st.integers(0, i - 1))}", f"n{i}", data.draw(km)) for i in range(1, size)]
    with tempfile.TemporaryDirectory() as folder:
        topology = read(
            Path(folder),
            table(("name", "longitude", "latitude"), nodes),
            table(("source", "target", "distance_km"), links),
        )
    np.testing.assert_array_equal(topology.position, [node[1:] for node in nodes])
    np.testing.assert_array_equal(topology.distance_km, [link[2] for link in links])
