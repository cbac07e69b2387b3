import numpy as np
import pytest

from experiments.foresight import in_the_mean
from torta_jax.cluster import build
from torta_jax.workload import Trace
from torta_jax.workload.table import TraceTable


def test_a_trace_in_the_mean_has_its_requests_where_it_says_and_its_work():
    cluster = build("abilene")
    time_s, tokens = np.array([0.0, 1.0, 50.0]), np.array([100, 300, 200])
    where = {"region": np.array([2, 2, 0], np.int32), "regions": ("a", "b", "c")}
    names = ["a", "b", "c", *map(str, range(cluster.num_regions - 3))]
    said = Trace.from_table(TraceTable("made", time_s, tokens, tokens, **where), regions=names)
    workload, rate = in_the_mean(said, cluster, 2)
    assert rate[:, [0, 2]].tolist() == [[0, 2], [1, 0]]
    assert rate.sum() == 3
    work_s = 200 / said.prefill_tokens_per_s + 200 / said.decode_tokens_per_s
    assert float(workload.work_low_s) == float(workload.work_high_s) == pytest.approx(float(work_s))
    assert float(workload.prefill_share) == pytest.approx(float(200 / said.prefill_tokens_per_s / work_s))
    unsaid = Trace.from_table(TraceTable("made", time_s, tokens, tokens))
    np.testing.assert_allclose(in_the_mean(unsaid, cluster, 2)[1], np.outer([2, 1], cluster.demand_share), rtol=1e-6)
