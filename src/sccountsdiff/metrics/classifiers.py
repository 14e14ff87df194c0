"""Generated cells as classifiers see them: told from real cells or not, and recognised as what they should be."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ._registry import metric

N_TREES = 200
N_FOLDS = 5


@metric(0.5, "cross-validated AUC of a random forest that tells generated from real cells")
def two_sample_auc(real: ArrayLike, generated: ArrayLike, seed: int = 0) -> float:
    """How well a random forest tells generated from real cells: 0.5 is not at all, 1 is always.

    200 trees, five stratified folds, area under the receiver operating characteristic of the pooled out-of-fold
    probabilities. The larger population is sampled down to the size of the smaller one, so that the classes balance.

    Parameters
    ----------
    real, generated
        Features of the cells (an embedding, or log counts), shapes ``(n_cells, n_features)``. The real cells must not
        be those that the generator was trained on.
    seed
        Seed of sampling, folds and forest.

    Returns
    -------
    The area; real cells against other real cells score 0.5 up to noise.

    References
    ----------
    Lopez-Paz and Oquab (2017), classifier two-sample tests.
    """
    rng = np.random.default_rng(seed)
    parts = [np.asarray(part, dtype=np.float64) for part in (real, generated)]
    size = min(map(len, parts))
    if size < N_FOLDS:
        raise ValueError(f"two_sample_auc needs at least {N_FOLDS} cells on either side, got {size}.")
    features = np.vstack([part[rng.choice(len(part), size, replace=False)] for part in parts])
    is_generated = np.repeat([0, 1], size)
    forest = RandomForestClassifier(N_TREES, random_state=seed)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    probability = cross_val_predict(forest, features, is_generated, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(is_generated, probability))


@metric("higher", "accuracy of labels transferred from real training cells")
def label_transfer_accuracy(train: ArrayLike, train_labels: ArrayLike, cells: ArrayLike, labels: ArrayLike) -> float:
    """Part of the cells that a classifier trained on real cells recognises as what they should be.

    Logistic regression on standardised features of the training cells. Held-out real cells are the value to compare
    with: well above it means that generated cells are caricatures of their type.

    Parameters
    ----------
    train
        Features of real training cells, ``(n_cells, n_features)``.
    train_labels
        Their labels, ``(n_cells,)``.
    cells
        Features of the cells to judge, ``(n_cells, n_features)``.
    labels
        Their labels, ``(n_cells,)``; of generated cells, those asked for.

    Returns
    -------
    A fraction between 0 and 1.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(np.asarray(train), np.asarray(train_labels))
    return float(np.mean(classifier.predict(np.asarray(cells)) == np.asarray(labels)))
