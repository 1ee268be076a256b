"""A strategy has one look in every figure: a colour for its family, shades for its variants."""

import random
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.text import Text

from analysis import dark, draw, load, looks
from analysis.appearance import (
    COLOURS,
    KNOWN,
    OWN_COLOURS,
    PALEST,
    base_name,
    family,
    lightness,
    order,
    slot,
)
from strategies import catalog

SOME = ["FedAvg", "FedProx", "FedProx(mu=0.1)", "FedAdam(tau=0.1)", "SCAFFOLD, buffered", "Ours",
        "Theirs(part=2)", "centralised", "local-only"]  # fmt: skip
OTHERS = ["FedProx(mu=1)", "FedProx(mu=10)", "FedAdam", "Another", "FedBuff(buffer=5)", "SCAFFOLD"]


def test_a_label_keeps_its_look_when_others_join() -> None:
    alone = {label: looks([label])[label] for label in [*SOME, *OTHERS]}
    assert looks([*SOME, *OTHERS]) == alone
    few = looks(SOME)
    shuffled = random.Random(1).sample([*OTHERS, *SOME], len(SOME) + len(OTHERS))
    assert {label: looks(shuffled)[label] for label in SOME} == few
    assert len(set(map(repr, alone.values()))) == len(alone)


def test_variants_have_their_familys_hue_and_another_dash() -> None:
    chosen = looks(["FedProx", *(f"FedProx(mu={mu})" for mu in range(12))])
    plain = chosen.pop("FedProx")
    assert plain == slot(KNOWN.index("fedprox"))
    assert all(look.dash != plain.dash for look in chosen.values())
    assert len({(v.colour, v.dash, v.marker) for v in chosen.values()}) == 12
    for look in chosen.values():  # orange, lighter or darker: red > green > blue
        red, green, blue = (int(look.colour[i : i + 2], 16) for i in (1, 3, 5))
        assert red > green > blue
        assert lightness(look.colour) <= PALEST


def test_what_is_not_known_has_a_colour_of_its_own() -> None:
    assert not set(OWN_COLOURS) & set(COLOURS)
    names = [f"s{i}" for i in range(40)]
    mine = looks([*names, *KNOWN])
    assert {mine[name].colour for name in names} <= set(OWN_COLOURS)
    triples = {(mine[name].colour, mine[name].dash, mine[name].marker) for name in names}
    assert len(triples) == 40
    assert [mine[name] for name in KNOWN] == [slot(i) for i in range(len(KNOWN))]


def test_every_strategy_of_the_catalogue_is_known() -> None:
    titles = [catalog.entry(name).title for name in catalog.names()]
    assert [title for title in titles if family(title) not in KNOWN] == []
    own = looks(titles).values()
    assert len({(look.colour, look.dash, look.marker) for look in own}) == len(titles)


def test_two_spellings_of_a_name_are_told_apart() -> None:
    both = looks(["FedAvg", "fedavg"])
    assert both["FedAvg"] == slot(0) and both["fedavg"] != slot(0)


def test_variants_stand_with_their_family() -> None:
    assert family("FedProx(mu=0.1, learning_rate=3)") == family("FedProx, buffered") == "fedprox"
    assert base_name("Local-only") == "localonly"
    labels = ["centralised", "Ours", "SCAFFOLD, buffered", "FedYogi", "FedAvg", "FedProx(mu=1)"]
    assert order(labels) == [
        "FedAvg", "FedProx(mu=1)", "SCAFFOLD, buffered", "FedYogi", "Ours", "centralised",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["accuracy", "comparison", "rounds_to_target", "traffic"])
def test_everything_is_seen_on_dark_slides(single: Path, name: str) -> None:
    figure = draw(name, load(single), "slide-dark")
    seen = set()
    for artist in figure.findobj(lambda a: isinstance(a, Line2D | Text) and a.get_visible()):
        if isinstance(artist, Line2D) or artist.get_text():
            seen.add(to_hex(artist.get_color()))
    seen -= {dark.GRID}
    for label, look in load(single).looks().items():
        if name in ("accuracy", "comparison"):
            assert dark.lifted(look.colour) in seen, label
    assert all(dark.contrast(colour, dark.PAPER) >= dark.CONTRAST for colour in seen)
    assert to_hex(figure.get_facecolor()) == dark.PAPER
    before = [to_hex(line.get_color()) for line in figure.axes[0].lines]
    dark.turn(figure)
    assert [to_hex(line.get_color()) for line in figure.axes[0].lines] == before
    plt.close(figure)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_lifted_colour_is_seen_and_stays(rgb: tuple[int, int, int]) -> None:
    colour = to_hex([v / 255 for v in rgb])
    once = dark.lifted(colour)
    assert dark.contrast(once, dark.PAPER) >= dark.CONTRAST
    assert dark.lifted(once) == once
    assert dark.luminance(once) >= dark.luminance(colour) - 1e-12
