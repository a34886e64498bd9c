"""Columns from headers."""

import numpy as np
import pytest

from rnafm.data import columns
from rnafm.data.columns import Categories, HeaderColumns


def read(header, pattern="rnacentral"):
    """The values of one header by column."""
    name, _, about = header.partition(" ")
    reader = HeaderColumns(pattern)
    codes, values = reader.read([name], [about]), reader.categories.to_dict()
    return {column: values[column][code[0]] for column, code in codes.items()}


class TestRNAcentral:
    @pytest.mark.parametrize(
        ("header", "kind", "number", "species"),
        [
            ("URS0000000001 rRNA from 13 species", "rRNA", "13", ""),
            ("URS0000000002 RNase P RNA from 2 species", "RNase P RNA", "2", ""),
            ("URS0000000003 Homo sapiens (human) piRNA piR-36", "", "", "Homo sapiens"),
            ("URS0000000004_9606 Homo sapiens hsa-mir-21", "", "", "Homo sapiens"),
            (
                "URS0000000005 Candidatus Carsonella ruddii tRNA-Ala",
                "",
                "",
                "Candidatus Carsonella ruddii",
            ),
            (
                "URS0000000006 uncultured bacterium partial 16S ribosomal RNA",
                "",
                "",
                "uncultured bacterium",
            ),
            ("URS0000000007 Bacillus sp. X1 16S rRNA", "", "", "Bacillus sp. X1"),
            ("URS0000000008 ", "", "", ""),
            ("URS0000000009 from 3 species", "", "", ""),
            ("URS000000000A 16S RNA of something", "", "", ""),
        ],
    )
    def test_headers(self, header, kind, number, species):
        assert read(header) == {"rna_type": kind, "num_species": number, "species": species}


class TestLimits:
    def test_too_many_columns(self, monkeypatch):
        monkeypatch.setattr(columns, "MOST_COLUMNS", 3)
        match = r"the headers name more than 3 columns, 'k3' among them; give an expression for"
        with pytest.raises(ValueError, match=match):
            HeaderColumns().read(["a"], ["k0=1 k1=1 k2=1 k3=1"])

    def test_too_long_values(self, monkeypatch):
        monkeypatch.setattr(columns, "MOST_LETTERS", 10)
        match = "'k' has more than 10 letters in its values, so it names no categories"
        with pytest.raises(ValueError, match=match):
            HeaderColumns().read(["a"], ["k=01234567890"])

    def test_merged_categories_are_limited_too(self, monkeypatch):
        monkeypatch.setattr(columns, "MOST_CATEGORIES", 3)
        found = Categories({"k": ["", "a", "b"]})
        with pytest.raises(ValueError, match="'k' has more than 3 values"):
            found.merge({"k": ["", "c"]})


def test_merging_keeps_the_order_of_appearance():
    found = Categories()
    first = found.merge({"a": ["", "x", "y"], "b": ["", "1"]})
    second = found.merge({"b": ["", "2", "1"], "c": [""], "a": ["", "y", "z"]})
    np.testing.assert_array_equal(first["a"], [0, 1, 2])
    np.testing.assert_array_equal(second["b"], [0, 2, 1])
    np.testing.assert_array_equal(second["a"], [0, 2, 3])
    assert found.to_dict() == {"a": ["", "x", "y", "z"], "b": ["", "1", "2"], "c": [""]}
