"""What holds for every cluster, however it was made."""

import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax import cluster


@pytest.fixture
def check_cluster():
    return _check_cluster


def _check_cluster(c, regions, servers, lanes):
    """What holds for every cluster; leading batch axes allowed."""
    shapes = {
        "latency_s": (regions, regions),
        "bandwidth_gbps": (regions, regions),
        "price_usd_per_kwh": (regions, 24),
        "utc_offset_h": (regions,),
        "demand_share": (regions,),
        "lane_mask": (regions, lanes, servers),
        "kind_match": (3, regions, servers),
    }
    for name, values in vars(c).items():
        shape = shapes.get(name, (regions, servers))
        assert values.shape[values.ndim - len(shape) :] == shape, name
        if name not in ("gpu", "lane_mask"):
            assert values.dtype == jnp.zeros(()).dtype, name
            assert name == "bandwidth_gbps" or bool(jnp.isfinite(values).all()), name
    latency = np.asarray(c.latency_s, np.float64)
    itself = np.eye(regions, dtype=bool)
    assert (latency[..., itself] == 0).all()
    assert (latency[..., ~itself] > 0).all()
    np.testing.assert_array_equal(latency, np.swapaxes(latency, -1, -2))
    via = (latency[..., :, :, None] + latency[..., None, :, :]).min(axis=-2)
    assert (via >= latency * (1 - 1e-5)).all()
    bandwidth = np.asarray(c.bandwidth_gbps)
    assert np.isinf(bandwidth[..., itself]).all()
    assert (np.isfinite(bandwidth[..., ~itself]) & (bandwidth[..., ~itself] > 0)).all()
    assert (c.price_usd_per_kwh > 0).all()
    np.testing.assert_allclose(c.demand_share.sum(axis=-1), 1, rtol=1e-5)
    assert (c.server_mask.sum(axis=-1) >= 1).all()
    assert (c.gpu >= 0).all()
    assert (c.gpu < len(cluster.GPUS)).all()
    assert (jnp.where(c.server_mask, 0, c.gpu) == 0).all()
    for name in ("memory_gb", "warmup_s", "switch_s", "migrate_out_s", "idle_w", "active_w"):
        np.testing.assert_array_equal(getattr(c, name) > 0, c.server_mask)
