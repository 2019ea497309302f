"""The picture and the table of the benchmark of large databases."""

from xml.etree import ElementTree

from benchmarks.scale.databases import table
from benchmarks.scale.picture import curves


def test_the_picture_is_svg_with_each_line_and_its_name() -> None:
    lines = {"one & two": [(10_000, 0.5), (1_000_000, 40.0)], "none": [(10_000, 0.0), (1_000_000, 0.0)]}
    picture = ElementTree.fromstring(curves(lines, x="trees", y="ms"))
    names = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"one & two", "none", "1,000,000 trees", "0.01 ms"} <= set(names)
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}polyline"))) == 2


def test_the_table_has_a_column_for_each_engine_and_size() -> None:
    figures = {("sqlite", 10): {"list": 1.25}, ("sqlite", 1_000): {"list": 1_234.0}}
    assert table(figures, ["sqlite"], [10, 1_000]).splitlines() == [
        "| milliseconds | sqlite, 10 | sqlite, 1,000 |",
        "|---|---:|---:|",
        "| list | 1.2 | 1,234.0 |",
    ]
