"""What a step of training costs, against the papers' layers."""

from nin_jax import models
from nin_jax.config import default
from nin_jax.train import budget


def of(name, shape, **fields):
  model = models.defaults(name)
  model.update(fields)
  return models.build(model, shape)


def test_nin_on_cifar10():
  shape = (32, 32, 3)
  network = of("nin", shape)
  forward, conv1 = 222_486_528, 14_745_600
  inference = budget.inference_cost(network, shape).total
  assert (inference["params"], inference["macs"], inference["backward_macs"]) == (966_986, forward, 0)
  training = budget.training_cost(network, default().train, shape)
  # Two products more a layer, but for the gradient of the image, which nobody asks for.
  backward = 2 * forward - conv1
  assert (training.total["macs"], training.total["backward_macs"]) == (forward, backward)
  assert training.total["train_flops"] == 2 * (forward + backward)
  assert round((forward + backward) / forward, 4) == 2.9337
  assert training["block1/conv"].backward_macs == conv1
  assert training["block2/conv"].backward_macs == 2 * 117_964_800


def test_googlenet_trains_two_auxiliary_heads():
  shape = (224, 224, 3)
  network = of("googlenet", shape)
  training = budget.training_cost(network, default().train, shape)
  assert (training.total["params"], training.total["macs"]) == (13_378_280, 1_591_044_096)
  assert training.subtotal("auxiliary_4a")["params"] == 3_188_840
  assert training.subtotal("auxiliary_4d")["params"] == 3_190_888
  assert training.total["backward_macs"] == 2 * 1_591_044_096 - 118_013_952


def test_the_cost_is_one_image_s_whatever_the_batch_norm_and_dropout():
  shape = (8, 8, 1)
  plain = budget.training_cost(of("inception", shape, norm="none"), default().train, shape).total
  more = budget.training_cost(of("inception", shape, norm="batch", dropout=0.5), default().train, shape).total
  assert [plain[key] for key in ("macs", "train_flops")] == [more[key] for key in ("macs", "train_flops")]
