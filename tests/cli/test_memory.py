"""The memory of a comparison is known before it runs."""

import jax
import pytest

from torta_jax import cluster, schedulers, workload
from torta_jax.cli import memory
from torta_jax.cli.options import Compare
from torta_jax.errors import InputError
from torta_jax.learn import recipes
from torta_jax.sim.simulate import simulate


def nbytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def test_what_is_kept_of_a_slot_and_of_a_seed_is_what_the_simulator_gives():
    abilene = cluster.build("abilene")
    calm = workload.calm(num_slots=3, num_regions=abilene.num_regions)
    things = abilene, workload.Synthetic.create(), schedulers.get("skylb"), jax.random.key(0)
    run, slots = jax.eval_shape(lambda scenario: simulate(*things, scenario=scenario), calm)
    assert nbytes(slots) == 3 * memory.per_slot_bytes()
    kept = nbytes(run.totals.histogram) + 2 * run.totals.arrived.shape[0] * 4
    assert kept == memory.per_seed_bytes(abilene.num_regions)


def test_the_product_that_is_named_is_allowed_and_one_seed_more_is_not():
    def check(seeds: int) -> None:
        memory.check(Compare(seeds=seeds), policies=8, slots=1_000, regions=12)

    with pytest.raises(InputError, match=r"--seeds = 65536 and --slots = 1000: .* keep seeds × slots within") as raised:
        check(65_536)
    most = int(str(raised.value).rpartition(" ")[2].replace(",", "")) // 1_000
    check(most)
    with pytest.raises(InputError):
        check(most + 1)


def test_a_training_that_would_not_fit_is_refused():
    def check(**sizes: int) -> None:
        sizes = {"worlds": 32, "slots": 60, "regions": 12, "servers": 24} | sizes
        memory.check_training(
            recipes.torta(updates=1, kinds=["hard"], learning_rate=1e-3, blind=False, **sizes).learner
        )

    check()
    with pytest.raises(InputError, match=r"--worlds, --slots, --regions and --servers: [\d,]+ GB at once, 8 GB"):
        check(slots=10_000, regions=99)
    with pytest.raises(InputError, match="GB at once"):
        check(worlds=65_536)
