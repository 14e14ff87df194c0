import numpy as np
import pytest

from sccountsdiff import metrics


def brute_mmd2(x, y):
    everything = ((x[:, None] - x[None]) ** 2).sum(-1)
    width = np.median(everything[np.triu_indices(len(x), 1)])

    def kernel(a, b):
        squared = ((a[:, None] - b[None]) ** 2).sum(-1)
        return sum(np.exp(-squared / (2 * scale * width)) for scale in (0.25, 0.5, 1, 2, 4)) / 5

    n, m = len(x), len(y)
    xx, yy = kernel(x, x), kernel(y, y)
    return (xx.sum() - n) / (n * (n - 1)) + (yy.sum() - m) / (m * (m - 1)) - 2 * kernel(x, y).mean()


def test_mmd2_is_the_unbiased_estimate():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(1.0, size=(15, 3))
    assert metrics.mmd2(x, y) == pytest.approx(brute_mmd2(x, y))
    same = [metrics.mmd2(rng.normal(size=(30, 3)), rng.normal(size=(30, 3))) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200)
    assert min(same) < 0


def test_mmd2_takes_a_common_bandwidth():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    assert metrics.mmd2(x, y, metrics.median_squared_distance(x)) == pytest.approx(metrics.mmd2(x, y))


@pytest.fixture(scope="module")
def real():
    rng = np.random.default_rng(2)
    program = rng.integers(0, 3, 400)
    rate = rng.gamma(0.5, 2.0, (3, 60))[program] * rng.gamma(5, 0.2, (400, 1))
    return rng.poisson(rate)


def test_population_scores_of_a_copy_are_perfect(real):
    assert metrics.gene_correlation_agreement(real, real) == pytest.approx(1)
    assert metrics.library_size_mean_ratio(real, real) == 1
    assert metrics.library_size_sd_ratio(real, real) == 1
    assert metrics.zero_fraction_difference(real, real) == 0
    assert metrics.variance_error(real, real) == 0


def test_population_scores_notice_genes_drawn_on_their_own(real):
    rng = np.random.default_rng(3)
    shuffled = np.column_stack([rng.permutation(gene) for gene in real.T])
    halves = metrics.gene_correlation_agreement(real[:200], real[200:])
    assert halves > 0.9 > metrics.gene_correlation_agreement(real, shuffled)
    assert metrics.library_size_mean_ratio(real, shuffled) == pytest.approx(1)
    assert metrics.library_size_sd_ratio(real, shuffled) < 0.7
    embed = metrics.LogPCA(5).fit(real)
    floor = metrics.mmd2(embed.transform(real[:200]), embed.transform(real[200:]))
    assert metrics.mmd2(embed.transform(real[:200]), embed.transform(shuffled)) > 10 * abs(floor)


def test_variance_error_is_in_doublings():
    rng = np.random.default_rng(4)
    poisson = rng.poisson(20.0, (4000, 10))
    doubled = rng.negative_binomial(20, 0.5, (4000, 10))
    assert metrics.variance_error(poisson, doubled) == pytest.approx(1, abs=0.1)
    assert np.isnan(metrics.variance_error(np.zeros((3, 2)), np.zeros((3, 2))))


def test_constant_genes_are_left_out_of_correlations(real):
    constant = real.copy()
    constant[:, 0] = 0
    assert metrics.gene_correlation_agreement(real, constant, n_genes=60) > 0.9


def test_zero_fraction_difference_has_a_sign():
    assert metrics.zero_fraction_difference([[0, 1]], [[0, 0]]) == pytest.approx(0.5)


def test_mmd2_floor_is_a_quantile_of_real_against_real():
    cells = np.random.default_rng(5).normal(size=(60, 4))
    width = metrics.median_squared_distance(cells)
    rng = np.random.default_rng(6)
    orders = [rng.permutation(60) for _ in range(300)]
    values = [metrics.mmd2(cells[order[:20]], cells[order[20:]], width) for order in orders]
    assert metrics.mmd2_floor(cells, 20, n_splits=300) == pytest.approx(np.quantile(values, 0.95), rel=0.25)
    assert metrics.mmd2(cells[:20], cells[20:] + 2, width) > 3 * metrics.mmd2_floor(cells, 20)


@pytest.mark.parametrize("score", [metrics.mmd2, metrics.e_distance, metrics.gaussian_w2])
@pytest.mark.parametrize("sizes", [(1, 9), (9, 1)])
def test_one_cell_has_no_distances_within(score, sizes):
    with pytest.raises(ValueError, match=f"There are {sizes[0]} real and {sizes[1]} generated cells"):
        score(*(np.ones((size, 2)) for size in sizes))


def test_both_parts_of_a_floor_need_two_cells():
    with pytest.raises(ValueError, match="n_held_out=9 of 10 cells"):
        metrics.mmd2_floor(np.ones((10, 2)), 9)
