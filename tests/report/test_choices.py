"""The sentence of what validation chose."""

from gencls.report import choices


def of(**metrics):
  return {"training": {"fit": metrics}}


def test_the_choice_is_the_first_of_the_best_candidates():
  tried = {"validation_accuracy/l2=100": 0.8, "validation_accuracy/l2=10": 0.912}
  tied = {"validation_accuracy/a=2": 0.5, "validation_accuracy/a=1": 0.5}
  summaries = {
    "One": of(l2=10.0, validation_accuracy=0.912, **tried),
    "Two": of(**tied),
    "Three": of(step=40.0, iterations=100.0, validation_accuracy=0.83),
    "No choice": of(iterations=3.0),
    "No fit": {"training": {}},
    "Old": {},
  }
  assert choices.sentence(summaries) == (
    " Chosen by accuracy on validation images: One l2=10 of 2 (91.2%), Two a=2 of 2 (50.0%), "
    "Three 40 of 100 steps (83.0%)."
  )
  assert choices.sentence({"Old": {}}) == ""
