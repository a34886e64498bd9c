"""Redundancy: what cd-hit-est at 100 % removes, and nothing else, however much of it there is."""

import random
import re
import shlex
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data import containment, containment_search
from rnafm.data.containment import KINDS, complement_of, find_redundant
from rnafm.data.vocabulary import Vocabulary

RNA = Vocabulary.named("rna")
COMPLEMENT = complement_of(RNA)
SWAPPED = str.maketrans("ACGU", "UGCA")
needs_cd_hit = pytest.mark.skipif(
    not shutil.which("cd-hit-est"), reason="cd-hit-est is not installed"
)


def packed(sequences, vocabulary=RNA):
    tokens, lengths = vocabulary.encode_many(sequences)
    return tokens, np.concatenate([[0], np.cumsum(lengths)])


def redundancy(sequences, **options):
    options = {"complement": COMPLEMENT, "progress": False, **options}
    return find_redundant(*packed(sequences), **options)


def kept(sequences, **options):
    return np.flatnonzero(redundancy(sequences, **options).kinds == 0).tolist()


def plain(sequence):
    return re.sub("[^ACGU]", "N", sequence)


def reverse_complement(sequence):
    return sequence[::-1].translate(SWAPPED)


def holds(container, sequence):
    """Whether a longer sequence, or an equally long one, holds another on each strand."""
    texts = plain(sequence), reverse_complement(plain(sequence))
    return [text in plain(container) for text in texts]


def kept_by_definition(sequences):
    rows = []
    for i, sequence in enumerate(sequences):
        silent = not sequence or (len(sequence) > 10 and not re.search("[ACGU]{10}", sequence))
        if silent or not any(
            (len(other), i) > (len(sequence), j) and any(holds(other, sequence))
            for j, other in enumerate(sequences)
            if j != i
        ):
            rows.append(i)
    return rows


def kept_by_cd_hit(sequences, folder):
    fasta = "".join(f">{i}\n{sequence}\n" for i, sequence in enumerate(sequences))
    (folder / "in.fa").write_text(fasta)
    command = "cd-hit-est -c 1.0 -n 10 -M 0 -d 0 -i in.fa -o out.fa"
    subprocess.run(shlex.split(command), cwd=folder, check=True, capture_output=True)
    return [
        int(line[1:]) for line in (folder / "out.fa").read_text().splitlines() if line[0] == ">"
    ]


class Generator:
    """Sequences as in RNAcentral; only ``random()``, which is the same in every Python."""

    def __init__(self, seed):
        self.random = random.Random(seed).random  # noqa: S311  # no secrets

    def below(self, number):
        return int(self.random() * number)

    def letters(self, length):
        return "".join("ACGU"[self.below(4)] for _ in range(length))

    def variant(self, sequence):
        """A relative: a part, mutated, on either strand, some with ambiguous letters."""
        letters = list(sequence)
        for _ in range(self.below(4) if self.random() < 0.5 else 0):
            letters[self.below(len(letters))] = "ACGU"[self.below(4)]
        if self.random() < 0.1:
            letters[self.below(len(letters))] = "NRYK"[self.below(4)]
        if self.random() < 0.5:
            size = 11 + self.below(len(letters) - 11)
            start = self.below(len(letters) - size + 1)
            letters = letters[start : start + size]
        text = "".join(letters)
        return reverse_complement(plain(text)) if self.random() < 0.3 else text

    def families(self, number, longest=1500):
        found = []
        while len(found) < number:
            founder = self.letters(16 + int((longest - 16) * self.random() ** 3))
            found += [founder, *(self.variant(founder) for _ in range(self.below(6)))]
        order = sorted(range(number), key=lambda i: (self.random(), i))
        return [found[i] for i in order]


@given(
    st.lists(st.text("ACGU", min_size=1, max_size=90), min_size=1, max_size=4),
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 90), st.integers(0, 90), st.booleans()),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_every_part_is_found_and_nothing_else(founders, parts, rng):
    sequences = list(founders)
    for founder, start, end, reverse in parts:
        part = founders[founder % len(founders)][start:end]
        if part and rng.random() < 0.2:
            part = part[:-1] + rng.choice("ACGUNRY")
        sequences.append(reverse_complement(plain(part)) if reverse else part)
    rng.shuffle(sequences)
    assert kept(sequences) == kept_by_definition(sequences)


@given(
    st.integers(0, 10_000),
    st.sampled_from(["A", "AC", "ACG", "AAAAAAAC", "ACGUN"]),
    st.integers(20, 400),
)
def test_parts_of_repeats_are_found(seed, unit, longest):
    generator = Generator(seed)
    sequences = []
    for _ in range(25):
        text = unit * (generator.below(longest) // len(unit) + 1)
        place = generator.below(len(text))
        if generator.random() < 0.5:
            text = text[:place] + generator.letters(generator.below(30)) + text[place:]
        sequences.append(text if generator.random() < 0.6 else reverse_complement(text))
    assert kept(sequences) == kept_by_definition(sequences)


def test_all_classes_of_lengths_are_searched():
    generator = Generator(1)
    long = generator.letters(40_000)
    lengths = [*range(1, 40), *(2**j + d for j in range(5, 15) for d in (-1, 0, 1))]
    parts = [long[7 : 7 + length] for length in lengths]
    parts += [reverse_complement(long[11 : 11 + length]) for length in lengths]
    ends = [long[-length:] for length in lengths] + [long[:length] for length in lengths]
    strangers = [generator.letters(length) for length in lengths if length > 20]
    sequences = [*parts, *ends, *strangers, long]
    found = redundancy(sequences)
    first = len(parts) + len(ends)
    assert (found.kinds[:first] != 0).all()
    assert (found.kinds[first:] == 0).all()


BASE = "GAUUACAGGCAUCUUGACCAUGCAAGUCUUACGGAUCCAGUAGCUAUCCG"
WITH_R = f"{BASE[:25]}R{BASE[26:]}"
CASES = {
    "the first of equal ones": (["ACG" + BASE, BASE, "U" + BASE, BASE], [0, 2]),
    "the first of both strands": ([reverse_complement(BASE), BASE], [0]),
    "case and T": ([BASE, BASE.lower(), BASE.replace("U", "T")], [0]),
    "a copy with an ambiguous letter": ([WITH_R, WITH_R], [0]),
    "all ambiguous letters are one": ([WITH_R.replace("R", "Y"), WITH_R], [0]),
    "also on the other strand": ([reverse_complement(plain(WITH_R)), WITH_R], [0]),
    "an ambiguous letter is no plain one": ([BASE + "A", WITH_R, WITH_R + "GG", BASE], [0, 2]),
    "without ten plain letters in a row": (["ACGUACGUAN" * 5, "ACGUACGUAN" * 5], [0, 1]),
    "with ten of them": (["ACGUACGUACN" * 5, "ACGUACGUACN" * 5], [0]),
    "all ambiguous": (["N" * 40, "N" * 40], [0, 1]),
    "one substitution": ([BASE, BASE[:30] + "CC" + BASE[32:]], [0, 1]),
    "one letter less within": ([BASE, BASE[:30] + BASE[31:]], [0, 1]),
    "eleven letters": ([BASE, BASE[30:41], reverse_complement(BASE[20:31])], [0]),
}


@pytest.mark.parametrize("case", CASES)
def test_rules(case):
    sequences, expected = CASES[case]
    assert kept(sequences) == expected


@needs_cd_hit
@pytest.mark.parametrize("case", CASES)
def test_rules_are_those_of_cd_hit(case, tmp_path):
    sequences, expected = CASES[case]
    assert kept_by_cd_hit(sequences, tmp_path) == expected


def test_kinds_and_containers():
    other = "CCGUAAGGCUUACAGAGGAUUCUCAAGCAUGC"
    middle = BASE[10:35]
    sequences = [middle, BASE, BASE, reverse_complement(BASE), other, reverse_complement(middle)]
    found = redundancy(sequences)
    names = [KINDS[kind] for kind in found.kinds]
    # The last one is held by the first, and that one by another: the container is one that is kept.
    assert names == ["contained", "kept", "duplicate", "contained_reverse", "kept", names[5]]
    assert names[5] == "contained_reverse"
    assert found.containers.tolist() == [1, -1, 1, 1, -1, 1]
    assert (found.kinds.dtype, found.containers.dtype) == (np.uint8, np.int64)


def test_containers_are_kept_and_hold_what_they_are_said_to():
    sequences = Generator(2).families(600)
    found = redundancy(sequences)
    assert {*found.kinds.tolist()} == {0, 1, 2, 3}
    for i in np.flatnonzero(found.kinds):
        container = found.containers[i]
        forward, reverse = holds(sequences[container], sequences[i])
        assert found.kinds[container] == 0
        assert reverse if KINDS[found.kinds[i]] == "contained_reverse" else forward
        assert (KINDS[found.kinds[i]] == "duplicate") == (
            forward and len(sequences[i]) == len(sequences[container])
        )


def test_sequences_of_up_to_ten_letters_are_compared_too():
    sequences = ["ACGUACGG", "GGGGG", "A", "", "UUACGUACGGUU", "NN", "ANNA", ""]
    assert kept(sequences) == kept_by_definition(sequences) == [1, 3, 4, 6, 7]


# python tests/data/test_containment.py 300 7 > in.fa
# cd-hit-est -i in.fa -o out.fa -c 1.0 -n 10 -M 0 -d 0    (4.8.1)
# comm -3 <(grep '>' in.fa | sort) <(grep '>' out.fa | sort) | tr -d '>' | sort -n
GOLDEN = """
16 19 20 23 24 26 29 30 32 34 41 43 47 48 52 53 58 59 63 66 68 69 70 74 75 77 79 80 86 87 88 90 91
93 94 95 97 99 102 112 114 117 118 123 125 127 129 130 131 133 134 136 139 142 143 148 149 154 155
157 158 160 163 164 165 169 171 172 179 181 182 184 186 187 188 189 190 191 192 193 194 195 196
197 200 202 203 207 208 209 210 211 212 213 215 216 217 218 219 221 222 223 229 230 231 232 233
235 236 237 238 240 245 247 249 252 255 257 258 260 261 264 265 267 268 269 270 271 274 275 276
277 278 279 280 281 282 284 285 286 288 289 292 295 296 298
"""


def test_golden_set_of_cd_hit():
    removed = {*map(int, GOLDEN.split())}
    assert kept(Generator(7).families(300)) == [i for i in range(300) if i not in removed]


@needs_cd_hit
@pytest.mark.parametrize("number", [5_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_same_set_as_cd_hit(number, tmp_path):
    # In shorter ones it lets pass a letter more in a run of one letter; see the next test.
    sequences = [text for text in Generator(number).families(number, 600) if len(text) > 15]
    assert kept(sequences) == kept_by_cd_hit(sequences, tmp_path)


@needs_cd_hit
def test_cd_hit_is_not_exact_in_repeats(tmp_path):
    generator = Generator(3)
    left, right = generator.letters(40) + "C", "G" + generator.letters(40)
    indel = [left + "A" * 13 + right, left + "A" * 12 + right]
    assert kept_by_cd_hit(indel, tmp_path) == [0]  # which is no part of the other one
    assert kept(indel) == kept_by_definition(indel) == [0, 1]
    short = ["UUGGCACCCAGCCGAGUAAAUA", "CACCAGCCGAGUA"]
    assert kept_by_cd_hit(short, tmp_path) == [0]
    assert kept(short) == kept_by_definition(short) == [0, 1]
    precursor = (
        "GCUAGAAGAGGGAGAGAUGGUGAUUGAGGAAUGCAACAGAGAAAACUGACAGAAGAGAGUGAGCACAUGCAGGCACUGUUAUGUGUCUAUAAC"
        "UUUGCGUGUGCGUGCUCACCUCUCUUUCUGUCAGUUGCCUAUCUCUGCCUGCUUGACCUCUCUCUCUCUCUCUCUCUCUCAAAUUUGGCU"
    )
    missed = [precursor, "UGCUCACCUCUCUUUCUGUCAGU"]
    assert kept_by_cd_hit(missed, tmp_path) == [0, 1]
    assert kept(missed) == kept_by_definition(missed) == [0]


def test_threads_and_parts_do_not_matter(monkeypatch):
    sequences = Generator(4).families(800)
    one = redundancy(sequences, num_threads=1)
    monkeypatch.setattr(containment_search, "_CHUNK", 3_000)
    monkeypatch.setattr(containment_search, "_PAIRS", 2)  # full again and again
    for _ in range(3):
        many = redundancy(sequences, num_threads=5)
        np.testing.assert_array_equal(many.kinds, one.kinds)
        np.testing.assert_array_equal(many.containers, one.containers)


def test_sequences_with_the_same_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(containment_search, "_BASE", 1)  # every hash is a sum of letters
    sequences = Generator(5).families(60, 60)
    sequences += ["".join(sorted(sequence)) for sequence in sequences]
    assert kept(sequences) == kept_by_definition(sequences)


def test_tokens_may_be_a_memory_map(tmp_path):
    sequences = Generator(6).families(100)
    tokens, offsets = packed(sequences)
    tokens.tofile(tmp_path / "tokens.bin")
    mapped = np.asarray(np.memmap(tmp_path / "tokens.bin", np.uint8, "r"))
    offsets.flags.writeable = False
    found = find_redundant(mapped, offsets, complement=COMPLEMENT, progress=False)
    assert np.flatnonzero(found.kinds == 0).tolist() == kept(sequences)


def repeats(number):
    """Repeats of all lengths: each window comes back at each place, in each sequence."""
    generator = Generator(8)
    for unit in ("A", "AC", generator.letters(50)):
        yield [(unit * 3000)[: 1000 + i] for i in range(number)]
    yield [generator.letters(20) + "A" * (500 + i) + generator.letters(20) for i in range(number)]


def relatives(number):
    """Many relatives of one length; many fragments of one; one fragment of many."""
    generator = Generator(9)
    founder, small = generator.letters(1500), generator.letters(22)
    many = []
    for _ in range(number):
        place = generator.below(1500)
        many.append(founder[:place] + "ACGU"[generator.below(4)] + founder[place + 1 :])
    yield many
    yield [founder[generator.below(200) : 1500 - generator.below(200)] for _ in range(number)]
    yield [small] + [generator.letters(200) + small + generator.letters(200) for _ in range(number)]
    yield [small] * 100 * number + [founder]


@pytest.mark.parametrize("kind", [repeats, relatives])
def test_hard_cases_are_not_quadratic(kind):
    kept(["ACGU"])  # compiled
    for sequences in kind(1000):
        started = time.process_time()
        found = redundancy(sequences)
        # Comparing each with each other one takes minutes; this, a tenth of a second.
        assert time.process_time() - started < 5
        assert found.peak_bytes > 8 * len(sequences)


def test_memory_is_bounded_by_the_number_of_sequences():
    sequences = [*Generator(10).families(20_000, 60)]
    assert redundancy(sequences, num_threads=1).peak_bytes / len(sequences) < 200


def test_nothing_to_find():
    assert kept([]) == []
    assert kept(["", ""]) == [0, 1]
    assert kept(["ACGUACGUACGU"]) == [0]


def test_progress(capsys):
    redundancy([BASE, BASE[3:]], progress=True)
    written = capsys.readouterr().err
    assert "hash sequences: 2 records, 97 nt" in written
    assert "find contained sequences: 2 records, 97 nt" in written


def test_complement_of_vocabularies():
    for name in ("rna", "rna-28", "official-rna"):
        vocabulary = Vocabulary.named(name)
        complement = complement_of(vocabulary)
        pairs = [vocabulary.tokens[complement[vocabulary.ids[letter]]] for letter in "ACGURYN"]
        assert "".join(pairs) == "UGCARYN"
        tokens, offsets = packed([BASE, BASE[3:20], reverse_complement(BASE)[2:30]], vocabulary)
        found = find_redundant(tokens, offsets, complement=complement, progress=False)
        assert found.kinds.tolist() == [0, 2, 3]


def test_vocabularies_with_t():
    special = ("<pad>", "<cls>", "<eos>", "<unk>", "<mask>")
    for letters, both in (("ACGTN", False), ("ACGTUN", True)):
        vocabulary = Vocabulary((*special, *letters))
        tokens, lengths = vocabulary.encode_many(
            ["GATTACAGGCAUUUA", "TACAGGCA", "UAAAUGCCTGTAATC"] if both else ["GATTACAGGCA", "TACA"],
            replace_t=False,
        )
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        found = find_redundant(
            tokens, offsets, complement=complement_of(vocabulary), progress=False
        )
        assert found.kinds.tolist() == [0, 2, 3][: len(lengths)]


def test_codons_are_refused():
    with pytest.raises(ValueError, match=r"'codon': its tokens are 3 letters long.*redundancy: ex"):
        complement_of(Vocabulary.named("codon"))
    special = ("<pad>", "<cls>", "<eos>", "<unk>", "<mask>")
    with pytest.raises(ValueError, match=r"'custom': has no token for C U, and containment"):
        complement_of(Vocabulary((*special, "A", "G")))


@pytest.mark.parametrize(
    "complement",
    [
        np.roll(np.arange(256, dtype=np.uint8), 1),
        np.arange(255, -1, -1, dtype=np.uint8),
        COMPLEMENT[:100],
    ],
)
def test_wrong_complements_are_refused(complement):
    with pytest.raises(ValueError, match=r"does not exchange two pairs of tokens.*complement_of"):
        redundancy([BASE], complement=complement)


def test_what_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(containment, "_LONGEST", 100)
    assert kept(["A" * 100]) == [0]
    with pytest.raises(ValueError, match=r"1 sequences of up to 101 letters.*set max_length"):
        kept(["A" * 101])


def test_numba_is_asked_for(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("rnafm.data.containment_")]:
        if name.endswith("_kernels"):
            monkeypatch.delitem(sys.modules, name)
            monkeypatch.delattr(sys.modules["rnafm.data"], name.rpartition(".")[2])
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r"needs numba.*pip install 'rnafm\[contained\]'"):
        kept([BASE])


if __name__ == "__main__":
    for row, text in enumerate(Generator(int(sys.argv[2])).families(int(sys.argv[1]))):
        sys.stdout.write(f">{row}\n{text}\n")
