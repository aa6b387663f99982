import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

from aevb import datasets
from aevb.model import bernoulli_vae, gaussian_vae
from aevb.reproduction import figures, results, settings, tables
from aevb.reproduction.curves import FIGURE_2, FIGURE_3, Curves, agreement

PUBLISHED = results.published("figure2")
MNIST_3 = "MNIST, $N_z = 3$"


@pytest.fixture(autouse=True)
def headless():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def curves(seeds=1, splits=("train", "test", "running"), dims=(3,)):
    rows = [
        {"dataset": "mnist", "latent_dim": dim, "algorithm": algorithm, "split": split, "seed": seed}
        | {"samples": samples, "bound": -samples / 1e4 - 10 * seed}
        for seed in range(seeds)
        for dim in dims
        for algorithm in ("aevb", "wake-sleep")
        for split in splits
        for samples in (10_000, 20_000)
    ]
    return Curves(pd.DataFrame(rows), FIGURE_2)


def panels(figure):
    return {axis.get_title(): axis for axis in figure.axes if axis.get_title()}


# figure 2


def test_figure_2_has_the_papers_nine_panels_on_the_papers_axes():
    found = panels(figures.figure2({"published": PUBLISHED}))
    panels_of = {"MNIST": (3, 5, 10, 20, 200), "Frey Face": (2, 5, 10, 20)}
    assert list(found) == [f"{name}, $N_z = {dim}$" for name, dims in panels_of.items() for dim in dims]
    for title, axis in found.items():
        assert axis.get_xscale() == "log"
        assert axis.get_xlim() == (1e5, 1e8)
        assert axis.get_ylim() == ((-150, -100) if title.startswith("MNIST") else (0, 1600))
        assert len(axis.lines) == 4


def test_other_axes_can_be_asked_for():
    found = panels(figures.figure2({"live": curves()}, {"samples": (1e4, 1e6), "mnist": (-200, 0), "frey": (1, 2)}))
    assert {axis.get_xlim() for axis in found.values()} == {(1e4, 1e6)}
    assert {axis.get_ylim() for axis in found.values()} == {(-200, 0), (1, 2)}


def test_each_panel_has_the_lines_its_sources_have_and_no_others():
    sources = {"published": PUBLISHED, "recorded": curves(), "live": curves(dims=(3, 5))}
    for title, axis in panels(figures.figure2(sources)).items():
        # two algorithms, two splits; the split "running" is not drawn
        assert len(axis.lines) == {MNIST_3: 12, "MNIST, $N_z = 5$": 8}.get(title, 4)


def test_an_empty_record_draws_nothing():
    sources = {"published": PUBLISHED, "recorded": results.live("figure2", "no such profile")[0]}
    assert {len(axis.lines) for axis in panels(figures.figure2(sources)).values()} == {4}


def test_a_line_is_its_curve_in_its_colour_and_dash():
    ours = curves()
    ours.table.loc[ours.table["algorithm"] == "wake-sleep", "bound"] -= 100
    ours.table.loc[ours.table["split"] == "train", "bound"] += 0.5
    lines = panels(figures.figure2({"recorded": ours}))[MNIST_3].lines
    drawn = {(to_hex(line.get_color()).upper(), line.get_linestyle()): line.get_ydata() for line in lines}
    expected = {
        (figures.BLUE, "-"): [-1, -2],
        (figures.BLUE, "--"): [-0.5, -1.5],
        (figures.ORANGE, "-"): [-101, -102],
        (figures.ORANGE, "--"): [-100.5, -101.5],
    }
    assert {name: list(bounds) for name, bounds in drawn.items()} == expected
    assert all(list(line.get_xdata()) == [10_000, 20_000] for line in lines)


def test_several_seeds_are_drawn_as_their_mean_and_range():
    axis = panels(figures.figure2({"recorded": curves(seeds=3, splits=("test",))}))[MNIST_3]
    assert [list(line.get_ydata()) for line in axis.lines] == [[-11, -12]] * 2
    bands = [band.get_datalim(axis.transData).intervaly for band in axis.collections]
    assert [sorted(band) for band in bands] == [pytest.approx([-22, -1])] * 2
    plain = panels(figures.figure2({"recorded": curves(seeds=1)}))[MNIST_3]
    assert not plain.collections


def test_the_legend_names_algorithms_splits_and_the_sources_given():
    figure = figures.figure2({"published": PUBLISHED, "live": curves()})
    (legend,) = [axis.get_legend() for axis in figure.axes if axis.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == [
        "AEVB", "wake-sleep", "test", "train", "published", "live",
    ]  # fmt: skip


def test_several_seeds_are_named_in_the_legend():
    figure = figures.figure2({"published": PUBLISHED, "recorded": curves(seeds=2)})
    (legend,) = [axis.get_legend() for axis in figure.axes if axis.get_legend()]
    assert [text.get_text() for text in legend.get_texts()][-2:] == ["recorded", "range of seeds"]


def test_trained_alike_every_panel_has_one_curve_per_algorithm_and_split():
    alike, apart = figures.trained_alike(), results.recorded("figure2")
    names = list(FIGURE_2.names)
    assert set(alike.table[names].itertuples(index=False)) == set(apart.table[names].itertuples(index=False))
    assert not alike.table.duplicated([*names, "seed", "samples"]).any()
    assert set(alike.table["run"]) <= {run.key for run in settings.baseline(3, tuple(settings.FIGURE2))}
    assert {len(axis.lines) for axis in panels(figures.figure2_alike()).values()} == {8}


def test_figure_3_has_a_panel_a_training_set_and_its_algorithms():
    published = results.published("figure3")
    ours = pd.DataFrame(
        [(n, "mcem", split, s, -150.0, 0) for n in (1000, 50_000) for split in ("train", "test") for s in (1e6, 2e6)],
        columns=["n_train", "algorithm", "split", "samples", "log_px", "seed"],
    )
    figure = figures.figure3({"published": published, "recorded": Curves(ours, FIGURE_3)})
    small, large = figure.axes
    assert (small.get_title(), large.get_title()) == ("$N_{train}$ = 1,000", "$N_{train}$ = 50,000")
    assert len(small.lines) == len(large.lines) == 8
    assert small.get_xlim() == (0, 6e7)
    for axis in (small, large):
        (line,) = [line for line in axis.lines if list(line.get_xdata()) == [1e6, 2e6] and line.get_linestyle() == "-"]
        assert list(line.get_ydata()) == [-150, -150]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["AEVB", "wake-sleep", "MCEM", "test", "train", "published", "recorded"]


# images


@pytest.mark.parametrize(("inverted", "gap"), [(False, 0.0), (True, 1.0)])
def test_images_are_tiled_row_by_row_with_a_gap_of_one_pixel(inverted, gap):
    a, b, c = (np.arange(6).reshape(2, 3) / 10 + shift for shift in (0.1, 0.2, 0.3))
    images = torch.tensor(np.stack([a, b, c]).reshape(3, 6))
    expected = np.full((5, 7), gap)
    expected[:2, :3], expected[:2, 4:], expected[3:, :3] = a, b, c
    assert np.array_equal(figures.image_grid(images, (2, 3), columns=2, light=inverted), expected)
    assert figures.image_grid(images[:2], (2, 3), columns=2).shape == (2, 7)


@pytest.mark.parametrize(("dataset", "colours"), [("mnist", "gray_r"), ("frey", "gray")])
def test_digits_are_drawn_black_on_white_and_faces_as_photographs(dataset, colours):
    axis = plt.subplots()[1]
    shape = datasets.get(dataset).image_shape
    images = torch.rand(4, math.prod(shape), generator=torch.Generator().manual_seed(0))
    figures.show_images(axis, images, 2, dataset)
    (picture,) = axis.images
    assert picture.get_cmap().name == colours
    assert picture.get_clim() == (0, 1)  # not stretched to the images' own range
    assert np.array_equal(picture.get_array(), figures.image_grid(images, shape, 2, light=dataset == "frey"))


# figures 4 and 5


@pytest.mark.parametrize("n", [1, 10, 20])
def test_the_latent_grid_is_the_unit_square_through_the_inverse_cdf(n):
    """Back through the CDF it is n by n centres of equal cells: z_1 to the right, z_2 upwards."""
    z = figures.latent_grid(n)
    assert z.shape == (n * n, 2)
    u = 0.5 * (1 + torch.erf(z.double() / 2**0.5)).reshape(n, n, 2)
    centres = (torch.arange(n) + 0.5).double() / n
    torch.testing.assert_close(u[..., 0], centres.expand(n, n), rtol=0, atol=1e-6)
    torch.testing.assert_close(u[..., 1], centres.flip(0)[:, None].expand(n, n), rtol=0, atol=1e-6)


def test_the_latent_grid_fills_out_the_prior():
    """Mean, variance, fourth moment and correlation of N(0, I), as the cells shrink."""
    z = figures.latent_grid(1000).double()
    assert z.mean(0).abs().max() < 1e-5
    assert (z.var(0) - 1).abs().max() < 0.005  # the cells at the edge reach to infinity
    assert ((z**4).mean(0) - 3).abs().max() < 0.1
    assert z.prod(1).mean().abs() < 1e-5


def picture(axis):
    (image,) = axis.images
    return np.asarray(image.get_array()), image.get_cmap().name


@pytest.mark.parametrize(("dataset", "build"), [("mnist", bernoulli_vae), ("frey", gaussian_vae)])
def test_a_manifold_is_the_decoders_means_in_place(dataset, build):
    height, width = datasets.get(dataset).image_shape
    model = build(height * width, 3, 2, generator=torch.Generator().manual_seed(0))
    for weight in model.parameters():
        weight.data *= 100  # so that images differ
    axis = plt.subplots()[1]
    figures.manifold(axis, model, dataset, 3)
    tiles, colours = picture(axis)
    assert colours == {"mnist": "gray_r", "frey": "gray"}[dataset]
    u = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor([1 / 6, 0.5, 5 / 6]))
    for (row, column), z in {(0, 0): (0, 2), (0, 2): (2, 2), (1, 1): (1, 1), (2, 0): (0, 0), (2, 2): (2, 0)}.items():
        mean = model.decoder.mean(u[list(z)]).detach().reshape(height, width)
        top, left = row * (height + 1), column * (width + 1)
        assert tiles[top : top + height, left : left + width] == pytest.approx(mean.numpy(), abs=1e-6)


@pytest.mark.parametrize("latent_dim", [2, 5])
def test_samples_are_the_decoders_means_at_draws_from_the_prior(latent_dim):
    model = bernoulli_vae(784, 3, latent_dim, generator=torch.Generator().manual_seed(0))
    for weight in model.parameters():
        weight.data *= 100
    axis = plt.subplots()[1]
    figures.samples_grid(axis, model, "mnist", 4, generator=torch.Generator().manual_seed(5))
    z = torch.randn(16, latent_dim, generator=torch.Generator().manual_seed(5))
    expected = figures.image_grid(model.decoder.mean(z).detach(), (28, 28), 4)
    assert picture(axis)[0] == pytest.approx(expected)


# tables


def test_a_table_has_a_header_a_rule_and_a_row_each():
    text = tables.markdown_table(["name", "bound"], [("a", -1.5), (3, "**b**")]).data
    assert text.splitlines() == ["| name | bound |", "| --- | --- |", "| a | -1.5 |", "| 3 | **b** |"]


def test_the_table_of_agreement_has_a_row_a_curve_and_a_column_a_number_of_samples():
    ours = [
        ("aevb", 0, 1e6, -119.0),
        ("aevb", 1, 1e6, -118.2),
        ("aevb", 0, 1e7, -110.0),
        ("wake-sleep", 0, 1e6, -130.5),
    ]
    theirs = [("aevb", 1e6, -120.0), ("aevb", 1e7, -109.5), ("wake-sleep", 1e6, -130.0)]
    curve = {"dataset": "mnist", "latent_dim": 20, "split": "test"}
    ours = pd.DataFrame(ours, columns=["algorithm", "seed", "samples", "bound"]).assign(**curve)
    theirs = pd.DataFrame(theirs, columns=["algorithm", "samples", "bound"]).assign(**curve)
    both = (Curves(table, FIGURE_2) for table in (ours, theirs))
    assert tables.agreement_table(agreement(*both)).data.splitlines() == [
        "| dataset | latents | algorithm | split | 1M | 10M |",
        "| --- | --- | --- | --- | --- | --- |",
        "| MNIST | 20 | AEVB | test | -118.6 (+1.4) ± 0.4 | -110.0 (-0.5) |",
        "| MNIST | 20 | wake-sleep | test | -130.5 (-0.5) |  |",
    ]


def test_a_closing_box_has_three_columns():
    lines = tables.closing_box([("-155.3", "-156.0", "3 nats")]).data.splitlines()
    assert [line.count("|") for line in lines] == [4, 4, 4]
    assert lines[0] == "| the paper says | we got | tolerance |"
    assert lines[2] == "| -155.3 | -156.0 | 3 nats |"


def test_levels_hold_their_shares():
    """Of five cells, the highest holds half of the mass and the highest three hold nine tenths."""
    mass = torch.tensor([[0.08, 0.5, 0.1], [0.02, 0.3, 0.0]])
    low, high = figures.levels(mass, (0.45, 0.85))
    assert mass[mass >= high].sum() == 0.5
    assert mass[mass >= low].sum() == pytest.approx(0.9)
