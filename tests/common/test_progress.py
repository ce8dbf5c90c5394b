from sparsact._common.progress import ProgressCounter


def test_a_counter_reports_every_step_with_its_label():
    reports = []
    counter = ProgressCounter(5, lambda *report: reports.append(report), "first")
    counter.advance()
    counter.label = "second"
    assert list(counter.through("ab")) == ["a", "b"]
    counter.jump(5)
    assert reports == [(1, 5, "first"), (2, 5, "second"), (3, 5, "second"), (5, 5, "second")]


def test_a_counter_without_a_callback_only_counts():
    counter = ProgressCounter(2)
    counter.advance(2)
    assert counter.done == counter.total
