"""Configs that nothing can be trained from; the folder stays free for the corrected one."""

from unittest import mock

import bad_input
import numpy as np
import toy
from bad_input import Case
from finished import Scene, module, toy_data, train, train_config

from gencls import models

NAN, INF = float("nan"), float("inf")
_ATTACKED = {"train.loss": "adversarial"}
_TRAIN = [
  ("seed", -1),
  ("seed", 2**32),
  ("seed", 0.5),
  ("data.name", "mnits", "unknown dataset 'mnits'", "did you mean 'mnist'"),
  ("data.validation_size", -1),
  ("data.validation_size", 2.5),
  ("data.validation_size", 10**9),
  ("model.name", "cnnn", "unknown model 'cnnn'", "did you mean 'cnn'"),
  ("model.hidden_sise", 4, "'hidden_sise'", "did you mean 'hidden_size'"),
  ("model.hidden_size", 0),
  ("model.hidden_size", 2.5),
  ("model.channels", (4, 0)),
  ("model.channels", "4"),
  ("model.dropout_rate", 1.0),
  ("model.dropout_rate", NAN),
  ("train.batch_size", 0),
  ("train.batch_size", -3),
  ("train.batch_size", 61),
  ("train.batch_size", 2.5),
  ("train.batch_size", True),
  ("train.batch_size", "ten"),
  ("train.micro_batch_size", 0),
  ("train.micro_batch_size", 0.5),
  ("train.num_epochs", 0),
  ("train.num_epochs", 1.5),
  ("train.num_epochs", None),
  ("train.max_steps", -1),
  ("train.learning_rate", 0.0),
  ("train.learning_rate", -1.0),
  ("train.learning_rate", NAN),
  ("train.learning_rate", INF),
  ("train.learning_rate", "fast"),
  ("train.schedule", "cosin", "unknown train.schedule 'cosin'", "did you mean 'cosine'"),
  ("train.warmup_steps", -1),
  ("train.weight_decay", -0.1),
  ("train.weight_decay", NAN),
  ("train.grad_clip", 0.0),
  ("train.grad_clip", INF),
  ("train.ema_decay", 1.0),
  ("train.ema_decay", NAN),
  ("train.early_stop_patience", 0),
  ("train.log_every", 0),
  ("train.validate_every", 0),
  ("train.stuck_after", -1),
  ("train.method", "fitt", "unknown train.method 'fitt'", "did you mean 'fit'"),
  ("train.method", "fit", "fit of its own"),
  ("train.optimizer", "sdg", "unknown train.optimizer 'sdg'", "did you mean 'sgd'"),
  ("train.momentum", 0.9, "unless train.optimizer"),
  ("train.momentum", 1.0, {"train.optimizer": "sgd"}),
  ("train.momentum", NAN, {"train.optimizer": "sgd"}),
  ("train.loss", "adversarail", "unknown train.loss 'adversarail'"),
  ("validate.num_images", 0),
  ("validate.num_samples", 5, "'num_samples'", "of 'cnn'"),
  ("checkpoint.keep", 0),
  ("adversarial.attack", "pgdd", _ATTACKED, "unknown attack 'pgdd'", "did you mean 'pgd'"),
  ("adversarial.attack", "deepfool", _ATTACKED, "needs an attack with an eps", "'deepfool'"),
  ("adversarial.loss", "hinge", _ATTACKED, "unknown loss 'hinge'"),
  ("adversarial.clean_weight", 1.5, _ATTACKED),
  ("adversarial.clean_weight", NAN, _ATTACKED),
  ("adversarial.warmup_steps", -1, _ATTACKED),
  ("adversarial.hyperparameters.eps", -0.1, _ATTACKED),
  ("adversarial.hyperparameters.num_steps", 2.5, _ATTACKED),
  ("adversarial.hyperparameters.step_size", INF, _ATTACKED, "step size", "got inf"),
]
_PRETRAINED = {"name": "pretrained_vae_classifier", "pretrain_steps": 2}
_PATIENCE = ("train.early_stop_patience", 3, {"model": _PRETRAINED}, "is 2, got 3", "at chance")
_GFZ = [
  ("latent_size", 0),
  ("num_samples", 0),
  ("num_samples", 2.5),
  ("train_samples", -2),
  ("likelihood", "laplace", "unknown likelihood 'laplace'"),
  ("kl_warmup_steps", -1),
  ("memory_budget_gib", -1.0),
  ("memory_budget_gib", NAN),
  ("max_rows", 2),
  ("class_prior", (0.5, 0.5), "class_prior must hold 3", "got (0.5, 0.5)"),
  ("class_prior", (NAN, 0.5, 0.5), "class_prior must hold 3"),
  ("image_shape", (4, 4), "image_shape must be (H, W, D)", "got (4, 4)"),
  ("num_classes", 1),
]
_NO_DECODER = [
  ("likelihood", "bernoulli", "'dfx' has none", "leave them at 'squared_error'"),
  ("crf", "centre", "'dfx' has none"),
  ("detached_target", True, "'dfx' has none"),
]
_COLOURS = ("image_shape", (4, 4, 3), "one spin for each pixel", "got (4, 4, 3)")
_DENOISED = [
  _COLOURS,
  ("method", "mean_feild", "unknown method 'mean_feild'", "did you mean 'mean_field'"),
  ("h", 0.0, "h must be > 0"),
  ("centre", 1.0, "centre must be in (0, 1)"),
]
_ISING = [_COLOURS, ("backward", "flipp", "unknown backward 'flipp'", "did you mean 'flip'")]
_MIXTURE = [
  ("num_components", 0, "num_components must be >= 1"),
  ("covariance", "spherial", "'spherial'", "spherical"),
]
_NAIVE_BAYES = [
  ("backward", "flip", "binarized is False"),
  ("variance_floor", -1.0),
  ("variance_floor", (0.01, 0.010000001), "must differ in their first six digits"),
]
_CVAE = [("hidden_sizes", (8, 0)), ("rule", "nearist", "unknown rule 'nearist'")]


def _build(name: str):
  def act(at: Scene, **fields: object) -> None:
    models.build(name, **{"image_shape": (4, 4, 1), "num_classes": 3, **fields})

  return act


def _nowhere(at: Scene) -> None:
  train(at, **{"data.name": "mnist", "data.dir": "/nowhere"})


def _without_class_2(at: Scene) -> None:
  def fewer(*given, whole=toy.dataset, **named):
    found = whole(*given, **named)
    return found._replace(labels=np.minimum(found.labels, 1))

  with mock.patch.object(toy, "dataset", fewer):
    train(at)


def _too_many_components(at: Scene) -> None:
  mixture = {"name": "gaussian_mixture", "num_components": 100}
  config = train_config(**{"model": mixture, "train.method": "fit"})
  with toy_data():
    module("launch.train").run(config, str(at.empty))


CASES: list[Case] = [
  Case("training", "no training image of a class", _without_class_2,
       ("every class needs a training example", "none of class 2", "60 images")),
  Case("training", "more components than examples of a class", _too_many_components,
       ("num_components must be at most the examples of every class", "got 100 for 18")),
  Case("training", "data.dir='/nowhere'", _nowhere, ("data_dir", "'/nowhere'"), FileNotFoundError),
  *bad_input.settings("training", train, [*_TRAIN, _PATIENCE]),
  *bad_input.settings("gfz", _build("gfz"), _GFZ),
  *bad_input.settings("dfx", _build("dfx"), _NO_DECODER),
  *bad_input.settings("cvae", _build("cvae"), _CVAE),
  *bad_input.settings("cnn_denoised", _build("cnn_denoised"), _DENOISED),
  *bad_input.settings("ising", _build("ising"), _ISING),
  *bad_input.settings("gaussian_mixture", _build("gaussian_mixture"), _MIXTURE),
  *bad_input.settings("gaussian_naive_bayes", _build("gaussian_naive_bayes"), _NAIVE_BAYES),
]  # fmt: skip
