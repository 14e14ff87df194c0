from sccountsdiff import metrics


def test_the_table_lists_every_metric_with_direction_and_description():
    table = metrics.list_metrics()
    assert {"poisson_deviance", "mmd2", "pit_ks", "total_ratio", "rmse"} <= set(table.index)
    assert table.loc["total_ratio", "better"] == "1.0"
    assert table.loc["poisson_deviance", "better"] == "lower"
    assert (table["description"].str.len() > 10).all()


def test_registered_metrics_are_the_plain_functions():
    for name, entry in metrics.METRICS.items():
        assert entry.function is getattr(metrics, name)
        assert entry.name == name
        assert entry.function.__doc__
