"""The first image under one attack, for each model and eps."""

import numpy as np
from toy_report import EPS, write_run

from gencls.report import compare, figures, one_image


def test_the_first_image_of_every_eps_in_order_with_its_prediction(tmp_path):
  for title in ("A", "B"):
    write_run(tmp_path / title, title, attacks=("pgd", "fgsm"), seed=ord(title))
  entries = compare.gather([tmp_path / "A", tmp_path / "B"], "toy")
  found = one_image.rows(entries, "pgd")
  assert list(found) == ["A", "B"]
  for entry in entries:
    assert [shown.eps for shown in found[entry.title]] == list(EPS)
    cells = {c.header["eps"]: c for c in entry.cells if c.header["label"] == "pgd"}
    for shown in found[entry.title]:
      arrays = cells[shown.eps].arrays
      assert np.array_equal(shown.image, arrays["x_adv"][0])
      assert shown.prediction == arrays["prediction"][0, 0]
      assert shown.right == bool(arrays["correct"][0])
  assert one_image.rows(entries, "square") == {}
  compare.write(entries, "toy", tmp_path / "out", "pgd")
  assert "toy_one_image.png" in (tmp_path / "out" / "toy.md").read_text()
  assert (tmp_path / "out" / "toy_one_image.png").stat().st_size > 0


def test_long_titles_stand_beside_their_own_row(tmp_path):
  titles = [f"Gaussian naive Bayes (gaussian_naive_bayes_published_mnist-seed{i})" for i in (0, 1)]
  shown = [one_image.Shown(e, np.zeros((28, 28, 1), np.float32), 7, True) for e in EPS]
  figure = one_image.draw(dict.fromkeys(titles, shown), "fgm", "")
  figures.png(figure, 40)  # lays it out
  axes = np.reshape(figure.axes, (2, len(EPS)))[:, 0]
  labels = [axis.yaxis.label for axis in axes]
  assert [label.get_text().replace("\n", "") for label in labels] == [
    title.replace("Bayes (", "Bayes(") for title in titles
  ]
  boxes = [label.get_window_extent() for label in labels]
  for box, axis in zip(boxes, axes, strict=True):
    assert box.x0 >= 0 and box.x1 <= axis.bbox.x0
  assert boxes[1].y1 < boxes[0].y0  # one below the other


def test_a_model_without_an_eps_leaves_a_gap(tmp_path):
  write_run(tmp_path / "A", "A", attacks=("pgd",))
  write_run(tmp_path / "B", "B", attacks=("pgd",), leave_out=(("pgd", EPS[1]),))
  found = one_image.rows(compare.gather([tmp_path / "A", tmp_path / "B"], "toy"), "pgd")
  figure = one_image.draw(found, "pgd", "")
  captions = [[axis.get_title() for axis in row] for row in np.reshape(figure.axes, (2, len(EPS)))]
  assert captions[0] == [str(shown.prediction) for shown in found["A"]]
  assert captions[1][1] == "" and all(captions[1][i] for i in (0, 2, 3, 4))
  assert figures.png(figure, 40).startswith(b"\x89PNG")
