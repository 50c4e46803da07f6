"""Only work whose result is used counts, through calls, loops and branches; effects count too."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from nin_jax import cost


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


X = W = array(4, 4)
ONE = 4 * 4 * 4
LEFT_OUT = "MACs are left out"


def left_out(counted):
  return [note for note in counted.notes if LEFT_OUT in note]


def both(x, w):
  return x @ w, jnp.sin(x @ w @ w)


@pytest.mark.parametrize("wrap", [lambda fn: fn, jax.jit, jax.checkpoint])
def test_what_nothing_uses_is_left_out_and_noted(wrap):
  counted = cost.analyze(lambda x, w: wrap(both)(x, w)[0], X, W)
  assert (counted.total["macs"], counted.total["elementwise"]) == (ONE, 0)
  assert left_out(counted) == [f"{2 * ONE} {LEFT_OUT}, since nothing uses their results"]
  whole = cost.analyze(wrap(both), X, W)
  assert (whole.total["macs"], whole.total["elementwise"], left_out(whole)) == (3 * ONE, 16, [])


def test_a_gradient_alone_needs_no_product_that_only_the_loss_reads():
  loss = lambda x, w: (jnp.sin(x @ w) @ w).sum()
  alone = cost.analyze(jax.grad(loss, 1), X, W)
  step = cost.analyze(jax.value_and_grad(loss, 1), X, W)
  assert (alone.total["macs"], alone.total["backward_macs"]) == (ONE, 3 * ONE)
  assert (step.total["macs"], step.total["backward_macs"]) == (2 * ONE, 3 * ONE)
  assert any(note.startswith(f"{ONE} {LEFT_OUT}") and "value_and_grad" in note for note in alone.notes)
  assert left_out(step) == []
  assert f"{ONE} {LEFT_OUT}" in cost.table(alone, train=True)


def test_a_carry_counts_if_a_later_trip_or_the_result_reads_it():
  carried = lambda body: lambda x, w: lax.scan(lambda c, _: (body(c, w), None), (x, x), None, length=3)[0][0]
  macs = lambda body: cost.analyze(carried(body), X, W).total["macs"]
  assert macs(lambda c, w: (jnp.sin(c[0]), c[1] @ w)) == 0
  assert macs(lambda c, w: (c[1], c[0] @ w)) == 3 * ONE
  assert macs(lambda c, w: (c[0] + c[1], c[1] @ w)) == 3 * ONE
  stacked = lambda x, w: lax.scan(lambda c, _: (c, (c @ w, jnp.sin(c))), x, None, length=3)[1]
  assert cost.analyze(lambda x, w: stacked(x, w)[1], X, W).total["macs"] == 0
  assert cost.analyze(lambda x, w: stacked(x, w)[0], X, W).total["macs"] == 3 * ONE


def test_the_condition_of_a_loop_counts_with_what_the_loop_yields():
  def loop(x, w):
    again = lambda c: (c[1] @ w).sum() < 9
    return lax.while_loop(again, lambda c: (c[0] @ w, c[1] + 1, jnp.sin(c[2])), (x, x, x))

  macs = lambda i: cost.analyze(lambda x, w: loop(x, w)[i], X, W).total["macs"]
  assert [macs(i) for i in range(3)] == [2 * ONE, ONE, ONE]
  unused = cost.analyze(lambda x, w: (loop(x, w), jnp.cos(x))[1], X, W)
  assert (unused.total["macs"], unused.total["elementwise"]) == (0, 16)
  assert not any("while" in note for note in unused.notes)


def test_the_most_expensive_branch_is_that_of_the_result_which_is_used():
  first = lambda x, w: (x, x @ w @ w @ w)
  second = lambda x, w: (x @ w, jnp.sin(x))
  pick = lambda i: lambda p, x, w: lax.cond((p @ w).sum() > 0, first, second, x, w)[i]
  counted = [cost.analyze(pick(i), X, X, W) for i in (0, 1)]
  assert [c.total["macs"] for c in counted] == [2 * ONE, 4 * ONE]  # with the predicate
  assert all(any("cond" in note for note in c.notes) for c in counted)
  assert not any(LEFT_OUT in note for note in counted[0].notes), "the other branch is no dead code"
  nested = lambda p, x, w: lax.cond(p, lambda x: pick(0)(x, x, w), lambda x: x @ w @ w @ w, x)
  assert cost.analyze(nested, array(dtype=jnp.bool_), X, W).total["macs"] == 3 * ONE


def test_effects_are_kept_with_what_they_read():
  def printing(x, w):
    jax.debug.print("{}", (x @ w).sum())
    return x

  assert cost.analyze(printing, X, W).total["macs"] == ONE
  loop = lambda x, w: lax.while_loop(lambda c: (c @ w).sum() < 9, lambda c: printing(c, w) + 1, x)
  assert cost.analyze(lambda x, w: (loop(x, w), x)[1], X, W).total["macs"] == 2 * ONE
  branch = lambda p, x, w: (lax.cond((p @ w).sum() > 0, printing, lambda x, w: x, x, w), x)[1]
  assert cost.analyze(branch, X, X, W).total["macs"] == 2 * ONE


def test_a_sum_over_devices_that_nothing_uses_is_no_effect():
  summed = jax.pmap(lambda x, w: (lax.psum(x @ w, "i"), x)[1], axis_name="i", in_axes=(0, None))
  assert cost.analyze(summed, array(1, 4, 4), W).total["macs"] == 0
